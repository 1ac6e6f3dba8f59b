"""What can come of a command."""

from typing import ClassVar

from msgspec import Struct

from entitlements_server.ledger.errors import LedgerError
from entitlements_server.ledger.values import Transaction

MAX_RECORDED = 3
"""Most transactions that one decision records: an expiry, a lapse, and its own."""


class Recorded(Struct, frozen=True, gc=False):
    """A new transaction to be made durable. It may be a denied one.

    Attributes:
        transaction: The command's own transaction, which is the answer.
        settlements: What has lapsed by then; recorded before it, in order.
    """

    transaction: Transaction
    settlements: tuple[Transaction, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.settlements) < MAX_RECORDED

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """Everything that is recorded, in order."""
        return (*self.settlements, self.transaction) if self.settlements else (self.transaction,)


class Replayed(Struct, frozen=True, gc=False):
    """An earlier transaction is the answer. Nothing new is recorded.

    Attributes:
        transaction: That of an identical request, or the charge that opened the access window.
        refunded: If it is a charge: tokens of it given back so far.
        covered: Whether an access window covers the request, and not a key.
    """

    transaction: Transaction
    refunded: int = 0
    covered: bool = False
    transactions: ClassVar[tuple[Transaction, ...]] = ()


class Rejected(Struct, frozen=True):
    """The rules reject the request. Nothing is recorded."""

    error: LedgerError
    transactions: ClassVar[tuple[Transaction, ...]] = ()


class Unchanged(Struct, frozen=True, gc=False):
    """Nothing has lapsed, so there was nothing to settle."""

    transactions: ClassVar[tuple[Transaction, ...]] = ()


Outcome = Recorded | Replayed | Rejected | Unchanged
"""The result of a decision."""
