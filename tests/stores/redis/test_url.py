import pytest

from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.redis.url import parse
from entitlements_server.stores.urls import masked


def test_a_url_names_user_password_host_port_and_database() -> None:
    """Everything that a Redis URL usually says is understood, percent signs and all."""
    url = parse("rediss://ada:s%3Acret%40@ledger.example:6390/3?ca_file=/etc/ca.pem")
    assert url.addresses == (("ledger.example", 6390),)
    assert url.tls
    assert url.connection == {
        "username": "ada",
        "password": "s:cret@",
        "db": 3,
        "ssl_ca_certs": "/etc/ca.pem",
    }


def test_a_cluster_is_named_by_any_of_its_nodes() -> None:
    """A cluster's URL lists one node or more; a port that is left out is 6379."""
    url = parse("redis+cluster://:secret@one:7000,[::1]:7001,three")
    assert url.cluster
    assert url.addresses == (("one", 7000), ("::1", 7001), ("three", 6379))
    assert url.connection == {"username": None, "password": "secret"}


def test_by_default_everything_is_asked_of_a_server_and_nothing_of_replicas() -> None:
    """Without options a write is on disk before it is acknowledged."""
    url = parse("redis://localhost")
    assert (url.durability, url.replicas, url.tls) == ("always", 0, False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:secret@", "has no host"),
        ("redis://:secret@host:port", "port of host host"),
        ("redis://:secret@host:0", "port of host host"),
        ("redis://:secret@[host", "malformed"),
        ("redis://:secret@one,two", "redis+cluster://"),
        ("redis://:secret@host/first", "database in the store's URL must be a number"),
        ("redis+cluster://:secret@host/1", "only one database"),
        ("redis://:secret@host?durability=much", "must be one of always, everysec, unknown, none"),
        ("redis://:secret@host?replicas=-1", "replicas in the store's URL must be a number"),
        ("redis://:secret@host?timeout=3", "no option 'timeout'"),
        ("redis://:secret@host?replicas=1&replicas=2", "twice"),
        ("redis://:secret@host?ca_file=/ca.pem", "write rediss://"),
    ],
)
async def test_a_wrong_url_is_refused_with_a_sentence_and_without_its_password(
    url: str, words: str
) -> None:
    """What is wrong with a URL is said; the password in it never is."""
    with pytest.raises(StoreConfigurationError) as refused:
        await open_store(url)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_no_text_of_a_url_shows_its_password() -> None:
    """Neither its repr nor what the command line prints has the password."""
    url = "redis+cluster://ada:secret@one:1,two:2"
    assert "secret" not in repr(parse(url))
    assert masked(url) == "redis+cluster://ada:***@one:1,two:2"
