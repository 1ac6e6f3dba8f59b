"""The newest part of a ledger, in memory: durable in the commit log, not in the tables yet."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from entitlements_server.ledger.state import ReadSet, State
from entitlements_server.ledger.values import Account, Charge, Transaction, sequence_of


@dataclass(slots=True)
class Segment:
    """Transactions that are flushed together, and the state that they amount to.

    Attributes:
        state: The newest accounts, keys and charges of the users in it.
        transactions: In the order of the commit log; once sealed, sorted by user.
        taken: How many of the sorted ones were taken off to be flushed.
        refunded: Users with refunds: all that is theirs is flushed at once.
        position: Of its last group in the commit log.
    """

    state: State = field(default_factory=State)
    transactions: list[Transaction] = field(default_factory=list)
    taken: int = 0
    refunded: set[str] = field(default_factory=set)
    position: int = 0

    def add(self, transactions: Iterable[Transaction], state: State, position: int) -> None:
        """Add a durable group and what it changed of `state`."""
        mine = self.state
        for transaction in transactions:
            user_id = transaction.user_id
            key = (user_id, transaction.sequence)
            mine.accounts[user_id] = state.accounts[user_id]
            mine.charges[key] = state.charges[key]
            if transaction.binds_key:
                mine.keys[user_id, transaction.idempotency_key] = transaction
            refunded = sequence_of(transaction.refunded_transaction_id)
            if refunded is not None:
                mine.charges[user_id, refunded] = state.charges[user_id, refunded]
                self.refunded.add(user_id)
            self.transactions.append(transaction)
        self.position = position

    def sort(self) -> None:
        """Order by user; those of one user are in order already."""
        self.transactions.sort(key=attrgetter("user_id"))

    def take_batch(self, size: int) -> list[Transaction]:
        """Take off the next `size` transactions, or more where refunds must not be split up."""
        transactions = self.transactions
        end = min(self.taken + size, len(transactions))
        while end < len(transactions):
            user_id = transactions[end].user_id
            if user_id not in self.refunded or user_id != transactions[end - 1].user_id:
                break
            end += 1
        batch = transactions[self.taken : end]
        self.taken = end
        return batch

    @property
    def is_drained(self) -> bool:
        """Whether all of it was taken off."""
        return self.taken == len(self.transactions)


class Memtable:
    """Two segments: one that grows, and one, at times, that is sealed and being flushed."""

    def __init__(self) -> None:
        self.active = Segment()
        self.sealed: Segment | None = None

    def __len__(self) -> int:
        old = self.sealed
        unflushed = len(old.transactions) - old.taken if old else 0
        return len(self.active.transactions) + unflushed

    def seal(self) -> None:
        """Close the active segment, so that it can be flushed, and begin another."""
        assert self.sealed is None
        # First the old one's place as sealed: another thread must find it at any moment.
        self.sealed = self.active
        self.active = Segment()
        self.sealed.sort()

    def account(self, user_id: str) -> Account | None:
        """Return the account, if it changed within the memtable. Any thread may ask."""
        found = self.active.state.accounts.get(user_id)
        if found is None and (sealed := self.sealed) is not None:
            return sealed.state.accounts.get(user_id)
        return found

    def bound(self, key: tuple[str, str]) -> Transaction | None:
        """Return the transaction that a key was bound to within the memtable."""
        found = self.active.state.keys.get(key)
        if found is None and self.sealed is not None:
            return self.sealed.state.keys.get(key)
        return found

    def charge(self, key: tuple[str, int]) -> Charge | None:
        """Return a transaction that was made or refunded within the memtable."""
        found = self.active.state.charges.get(key)
        if found is None and self.sealed is not None:
            return self.sealed.state.charges.get(key)
        return found

    def prefetch(self, read_set: ReadSet, state: State) -> ReadSet:
        """Put what is here of `read_set` into `state`, and return what is not here."""
        accounts = {user_id: self.account(user_id) for user_id in read_set.users}
        keys = {key: self.bound(key) for key in read_set.keys}
        charges = {key: self.charge(key) for key in read_set.charges}
        state.accounts.update({k: v for k, v in accounts.items() if v})
        state.keys.update({k: v for k, v in keys.items() if v})
        state.charges.update({k: v for k, v in charges.items() if v})
        return ReadSet(
            frozenset(k for k, v in accounts.items() if not v),
            frozenset(k for k, v in keys.items() if not v),
            frozenset(k for k, v in charges.items() if not v),
        )

    def history(self, user_id: str, before: int, limit: int) -> list[Transaction]:
        """Read the newest transactions below `before`, as far down as they are all here."""
        account = self.account(user_id)
        if account is None:
            return []
        found: list[Transaction] = []
        sequence = min(before - 1, account.transaction_count)
        while len(found) < limit and (charge := self.charge((user_id, sequence))):
            found.append(charge.transaction)
            sequence -= 1
        return found
