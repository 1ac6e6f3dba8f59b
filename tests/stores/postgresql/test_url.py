import pytest

from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.postgresql.url import parse


def test_what_libpq_knows_is_passed_on_and_our_own_options_are_not() -> None:
    url = parse("postgresql://ada:s%40crt@db:5433/ledger?sslmode=verify-full&durability=none")
    assert url.durability == "none"
    assert url.dsn == "postgresql://ada:s%40crt@db:5433/ledger?sslmode=verify-full"
    assert "crt" not in repr(url)
    assert parse("postgresql://db/ledger").durability == "always"
    assert parse("postgresql://?service=ledger").dsn == "postgresql://?service=ledger"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://db", "names no database"),
        ("postgresql://db/ledger?statement_timeout=5", "has no option 'statement_timeout'"),
        ("postgresql://db/ledger?sslmode=require&sslmode=disable", "sslmode is in the store's URL"),
        ("postgresql://db/ledger?durability=everysec", "must be one of always, none"),
        ("postgresql://[db/ledger", "malformed"),
    ],
)
def test_a_wrong_url_is_refused_with_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(StoreConfigurationError, match=words):
        parse(url)
