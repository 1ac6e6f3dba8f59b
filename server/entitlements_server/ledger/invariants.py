"""What must hold of every history, checked from the newest transaction to the oldest."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from entitlements_server.ledger.values import Account, Kind, Status, Transaction, sequence_of


@dataclass(slots=True)
class Audit:
    """Checks the history of one account as it is read, newest first.

    Keys and refunds have to be remembered until the history is through. To bound that, a long
    history can be read several times, each time for another `part` of the keys and charges.

    Attributes:
        account: As it was when the reading began. What came later is not looked at.
        part: Which part of keys and charges to look at: 0 to parts - 1. The chain of sequences,
            balances and times is looked at in part 0.
        parts: How many parts there are, at least 1.
    """

    account: Account
    part: int = 0
    parts: int = 1
    _sequence: int = field(init=False)
    _balance: int = field(init=False)
    _time_us: int = field(init=False)
    _sum: int = field(init=False, default=0)
    _keys: dict[str, int] = field(init=False, default_factory=dict)
    _refunds: dict[int, dict[str, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._sequence = self.account.transaction_count
        self._balance = self.account.balance
        self._time_us = self.account.update_time_us

    def look_at(self, transaction: Transaction) -> Iterator[str]:
        """Check the next older transaction. Yields a sentence for each thing that is wrong."""
        if self.part == 0:
            yield from self._chain(transaction)
            yield from _itself(transaction)
        if transaction.binds_key and hash(transaction.idempotency_key) % self.parts == self.part:
            other = self._keys.setdefault(transaction.idempotency_key, transaction.sequence)
            if other != transaction.sequence:
                yield f"its idempotency key is bound to transaction {other}, too"
        yield from self._refunded(transaction)

    def finish(self) -> Iterator[str]:
        """Check what can be said once the oldest transaction was looked at."""
        for sequence in self._refunds:
            yield f"refunds name transaction {sequence}, which does not come before them"
        if self.part:
            return
        if self._sequence:
            yield f"transactions 1 to {self._sequence} are missing"
        if self._sum != self.account.balance:
            yield (f"its amounts add up to {self._sum} and its balance is {self.account.balance}")
        if self.account.transaction_count and self._time_us != self.account.create_time_us:
            yield "it was created at another time than its first transaction"

    def _chain(self, transaction: Transaction) -> Iterator[str]:
        if transaction.sequence != self._sequence:
            yield f"its sequence should be {self._sequence}"
        if transaction.balance_after != self._balance:
            yield (
                f"it leaves a balance of {transaction.balance_after} and the next begins with"
                f" {self._balance}"
            )
        newest = transaction.sequence == self.account.transaction_count
        if transaction.create_time_us > self._time_us:
            yield "it is later than the one that follows it"
        elif newest and transaction.create_time_us != self._time_us:
            yield "it is the newest and its account was updated at another time"
        self._sequence = transaction.sequence - 1
        self._balance = transaction.balance_before
        self._time_us = transaction.create_time_us
        self._sum += transaction.amount

    def _refunded(self, transaction: Transaction) -> Iterator[str]:
        if transaction.kind is Kind.REFUND:
            sequence = sequence_of(transaction.refunded_transaction_id)
            if sequence is None:
                if self.part == 0:
                    yield "it refunds something that is no transaction"
            elif sequence % self.parts == self.part:
                named = self._refunds.setdefault(sequence, {})
                charge_id = transaction.refunded_transaction_id
                named[charge_id] = named.get(charge_id, 0) + transaction.amount
        for charge_id, refunded in self._refunds.pop(transaction.sequence, {}).items():
            if charge_id != transaction.transaction_id:
                yield f"a refund names it as {charge_id}"
            elif transaction.kind is not Kind.CONSUME or transaction.status is not Status.SUCCESS:
                yield "it was refunded and is no successful charge"
            elif refunded > transaction.cost:
                yield f"it took {transaction.cost} tokens and {refunded} were given back"


def _itself(transaction: Transaction) -> Iterator[str]:
    """Check what one transaction must be like."""
    amount, cost = transaction.amount, transaction.cost
    match transaction.kind, transaction.status:
        case Kind.CONSUME, Status.SUCCESS:
            right = amount == -cost and cost >= 0
        case Kind.CONSUME, Status.DENIED:
            right = amount == 0 and cost > transaction.balance_before
        case ((Kind.REFUND | Kind.TOP_UP), Status.SUCCESS):
            right = amount > 0
        case Kind.ADJUSTMENT, Status.SUCCESS:
            right = True
        case _:
            right = False
    if not right:
        yield (
            f"a {transaction.kind.name} that ended as {transaction.status.name} at a cost of {cost}"
            f" cannot change the balance by {amount}"
        )
