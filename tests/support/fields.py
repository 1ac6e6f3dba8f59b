"""Values for each field of what is stored, made from its type: a new field needs no new test."""

from enum import IntEnum
from typing import Any

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from entitlements_server.ledger.values import (
    Account,
    Draw,
    Draws,
    Kind,
    Labels,
    Status,
    Transaction,
)

TRANSACTION = Transaction(
    1, Kind.TOP_UP, Status.SUCCESS, amount=5, balance_after=5, create_time_us=7, user_id="ada"
)
"""The least that a transaction can be."""

ACCOUNT = Account("ada", 5, 1, 7, 7)

UNUSUAL = 'a "quoted", \\ and ,"2": in it 語🦉'
"""A text with all that JSON has to escape."""

_EXCEPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("Transaction", "amount"): {"amount": 3, "balance_after": 3},
    ("Transaction", "balance_after"): {"balance_after": 2**53 - 1, "amount": 2**53 - 1},
}
"""Fields that depend on another."""


def names_of(value: type[Struct]) -> list[str]:
    """The fields of a value that this version knows."""
    return [one.name for one in fields(value) if one.name != "carried"]


def sample(value: type[Struct], name: str) -> dict[str, Any]:
    """What to replace in a value so that a field is not its default."""
    if (value.__name__, name) in _EXCEPTIONS:
        return _EXCEPTIONS[value.__name__, name]
    (one,) = (one for one in fields(value) if one.name == name)
    found: dict[Any, Any] = {
        int: 2**53 - 1,
        str: UNUSUAL,
        bytes: b"\x00\xff" * 16,
        Draws: (Draw(UNUSUAL, 2**53 - 1, 2**53 - 1), Draw("", 1, 0)),
        Labels: (("key", UNUSUAL), ("other", "")),
    }
    kind = one.type
    chosen = found[kind] if kind in found else kind(77)
    assert kind in found or issubclass(kind, IntEnum)
    assert one.default is NODEFAULT or chosen != one.default
    return {name: chosen}
