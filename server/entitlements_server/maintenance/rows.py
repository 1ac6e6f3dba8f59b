"""Transactions as rows of an audit trail, and which of them are wanted."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from entitlements_server.ledger.values import Kind, Status, Transaction

COLUMNS = (
    "user_id",
    "sequence",
    "transaction_id",
    "kind",
    "status",
    "feature",
    "cost",
    "amount",
    "balance_before",
    "balance_after",
    "create_time",
    "event_id",
    "idempotency_key",
    "reason",
    "refunded_transaction_id",
    "caller",
    "catalogue_version",
)
"""The columns of the trail, in order. Named as in the contract; amounts are tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which transactions are wanted. What is not said does not matter.

    Attributes:
        user_id: Of this user.
        feature: Charged for this feature.
        kind: Of this kind.
        status: That ended so.
        since_us: Not before this time, microseconds since 1970 UTC.
        until_us: Before this time, likewise.
    """

    user_id: str = ""
    feature: str = ""
    kind: Kind | None = None
    status: Status | None = None
    since_us: int | None = None
    until_us: int | None = None

    def match(self, transaction: Transaction) -> bool:
        """Return whether a transaction is wanted."""
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
        """Return them as plain values."""
        return asdict(self)


def row_of(transaction: Transaction) -> dict[str, Any]:
    """Turn a transaction into a row: names instead of numbers, the time as RFC 3339 UTC."""
    seconds, microseconds = divmod(transaction.create_time_us, 1_000_000)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    row = {name: getattr(transaction, name) for name in COLUMNS if name != "create_time"}
    row["kind"] = transaction.kind.name
    row["status"] = transaction.status.name
    row["create_time"] = time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {name: row[name] for name in COLUMNS}
