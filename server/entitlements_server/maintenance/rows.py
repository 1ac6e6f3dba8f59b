"""Transactions as rows of the audit trail, and filters."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from msgspec.structs import fields

from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.values import Draw, Kind, Status, Transaction

_MAX_PUBLIC = 100
"""Fields with higher numbers are internal to the ledger."""

_SALT = "salt"
"""Internal, but nobody can compute the chain without it."""

_FIELDS = {
    **{int(one.encode_name): one.name for one in fields(Transaction) if one.encode_name.isdigit()},
    1: "transaction_id",
    9: "balance_before",
    24: "available",
}
"""Stored and derived fields of a transaction, by their numbers in the contract."""

_FIRST = ("user_id", "sequence", "transaction_id")

_NAMES = (
    *_FIRST,
    *(
        name
        for number, name in sorted(_FIELDS.items())
        if (number <= _MAX_PUBLIC or name == _SALT) and name not in _FIRST
    ),
)

COLUMNS = tuple(name.removesuffix("_us") for name in _NAMES)
"""The columns of the audit trail, in order and named as in the contract. Amounts are tokens.

They are all that the chain is computed from: an export can be compared with a checkpoint. Two are stored otherwise: a
`quantity` of 1 is not stored, and of a denied charge what could not be spent is, `balance_before - available`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters for transactions. A filter that is not set matches everything.

    Attributes:
        user_id: Transactions of this user.
        feature: Charges for this feature.
        kind: Transactions of this kind.
        status: Transactions with this status.
        since_us: Transactions from this time on, microseconds since 1970 UTC.
        until_us: Transactions before this time, microseconds since 1970 UTC.
    """

    user_id: str = ""
    feature: str = ""
    kind: Kind | None = None
    status: Status | None = None
    since_us: int | None = None
    until_us: int | None = None

    def match(self, transaction: Transaction) -> bool:
        """Return whether a transaction matches."""
        time_us = transaction.create_time_us
        return (
            self.user_id in ("", transaction.user_id)
            and self.feature in ("", transaction.feature)
            and self.kind in (None, transaction.kind)
            and self.status in (None, transaction.status)
            and (self.since_us is None or time_us >= self.since_us)
            and (self.until_us is None or time_us < self.until_us)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the filters as JSON values."""
        return asdict(self)


def row_of(transaction: Transaction) -> dict[str, Any]:
    """Return a transaction as a row of JSON values, in the words of the contract's JSON.

    Enums by name; times as RFC 3339 UTC and periods in seconds (`3600s`), or empty; draws as a list,
    labels as an object; `available` is null unless the transaction is denied.
    """
    return {
        column: _OTHERWISE[name](transaction)
        if name in _OTHERWISE
        else _plain(name, getattr(transaction, name))
        for column, name in zip(COLUMNS, _NAMES, strict=True)
    }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if name.endswith("_us"):
        return _rfc3339(value)
    return value


def _draw(draw: Draw) -> dict[str, Any]:
    return {
        "grant": draw.grant,
        "amount": draw.amount,
        "expire_time": _rfc3339(draw.expire_time_us),
    }


_OTHERWISE: Mapping[str, Callable[[Transaction], Any]] = {
    "quantity": lambda one: one.quantity or int(one.kind is Kind.CONSUME),
    "draws": lambda one: [_draw(draw) for draw in one.draws],
    "lifetime_us": lambda one: _seconds(one.lifetime_us),
    "available": lambda one: one.available if one.status is Status.DENIED else None,
    "labels": lambda one: dict(one.labels),
}
"""Fields that are not written as they are stored."""


def _seconds(period_us: int) -> str:
    seconds, microseconds = divmod(period_us, SECOND_US)
    fraction = f".{microseconds:06}" if microseconds else ""
    return f"{seconds}{fraction}s" if period_us else ""


def _rfc3339(time_us: int) -> str:
    if not time_us:
        return ""
    seconds, microseconds = divmod(time_us, SECOND_US)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
