"""The list of callers: what it may say, and what is wrong with it otherwise."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from entitlements_server.config.callers import (
    MAX_CALLERS,
    CallersError,
    Role,
    new_token,
    read_callers,
    token_hash,
)

HASH = sha256(b"secret").hexdigest()
GOOD: dict[str, Any] = {"name": "web", "roles": ["reader"], "token_sha256": HASH}


def test_a_caller_has_a_name_roles_and_a_credential() -> None:
    table = {
        **GOOD,
        "roles": ["reader", "charger"],
        "token_sha256": [HASH, "sha256:" + "0" * 64],
        "certificate": "spiffe://example.org/web",
        "expires": datetime(2027, 1, 1, tzinfo=UTC),
        "rate": 2.5,
        "burst": 10,
    }
    (caller,) = read_callers([table])
    assert caller.name == "web"
    assert caller.roles == {Role.READER, Role.CHARGER}
    assert caller.token_hashes == (token_hash("secret"), bytes(32))
    assert caller.certificate == "spiffe://example.org/web"
    assert caller.expires_s == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert (caller.rate, caller.burst) == (2.5, 10)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ""}, "'name' must be text"),
        ({"name": "two words"}, "without spaces"),
        ({"name": 5}, "'name' must be text"),
        ({"name": None}, "'name' is missing"),
        ({"roles": None}, "'roles' is missing"),
        ({"roles": []}, "at least one of reader, charger, funder"),
        ({"name": "ent_secret and more"}, "'name' must be text"),
        ({"roles": ["admin"]}, "at least one of reader, charger, funder, and nothing else"),
        ({"roles": ["ent_secret"]}, "and nothing else"),
        ({"roles": [["reader"]]}, "and nothing else"),
        ({"roles": "reader"}, "must list"),
        ({"token_sha256": None}, "give 'web' a token_sha256"),
        ({"token_sha256": "ent_secret"}, "64 hexadecimal digits"),
        ({"token_sha256": []}, "64 hexadecimal digits"),
        ({"token_sha256": [HASH] * 9}, "up to 8"),
        ({"certificate": ""}, "'certificate' must be text"),
        ({"expires": "2027-01-01"}, "'expires' must be a date and time"),
        ({"expires": "ent_secret"}, "'expires' must be a date and time"),
        ({"rate": -1}, "'rate' must be a number"),
        ({"rate": float("nan")}, "'rate' must be a number"),
        ({"burst": True}, "'burst' must be a whole number"),
        ({"burst": 2.5}, "'burst' must be a whole number"),
        ({"token": "ent_secret"}, "'token' is not known"),
    ],
)
def test_anything_else_is_refused_with_its_place(change: dict[str, Any], problem: str) -> None:
    table = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(CallersError, match="caller number 1:") as refused:
        read_callers([table])
    assert problem in str(refused.value)
    # Someone may have put a token where its hash belongs.
    assert "ent_secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"name": "web", "token_sha256": "0" * 64}, "name"),
        ({"name": "job", "token_sha256": HASH}, "token"),
    ],
)
def test_two_callers_share_nothing(other: dict[str, Any], what: str) -> None:
    with pytest.raises(CallersError, match=f"the same {what}"):
        read_callers([GOOD, {**GOOD, **other}])


def test_a_list_that_is_no_list_or_too_long_is_refused() -> None:
    for tables in ({"web": GOOD}, ["web"], [GOOD] * (MAX_CALLERS + 1)):
        with pytest.raises(CallersError):
            read_callers(tables)


def test_a_token_is_new_each_time_and_long() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("ent_") and len(token) == 47 for token in tokens)
