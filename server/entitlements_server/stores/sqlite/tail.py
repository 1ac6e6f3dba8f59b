"""The part of a ledger that is durable in the journal and not indexed yet, in memory."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from entitlements_server.ledger.state import Needs, State
from entitlements_server.ledger.values import Account, Charge, Transaction, sequence_of


@dataclass(slots=True)
class Generation:
    """Transactions that are indexed together, and the state that they amount to.

    Attributes:
        state: The newest accounts, keys and charges of the users in it.
        transactions: In the order of the journal, later sorted by user.
        sliced: How many of the sorted ones were taken off for indexing.
        refunded: Users with refunds: all that is theirs is indexed at once.
        position: Of its last group in the journal.
    """

    state: State = field(default_factory=State)
    transactions: list[Transaction] = field(default_factory=list)
    sliced: int = 0
    refunded: set[str] = field(default_factory=set)
    position: int = 0

    def take_in(self, transactions: Iterable[Transaction], state: State, position: int) -> None:
        """Add a durable group and what it changed of `state`."""
        mine = self.state
        for transaction in transactions:
            user_id = transaction.user_id
            place = (user_id, transaction.sequence)
            mine.accounts[user_id] = state.accounts[user_id]
            mine.charges[place] = state.charges[place]
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

    def take_slice(self, size: int) -> list[Transaction]:
        """Take off the next `size` transactions, or more where refunds must not be split up."""
        transactions = self.transactions
        end = min(self.sliced + size, len(transactions))
        while end < len(transactions):
            user_id = transactions[end].user_id
            if user_id not in self.refunded or user_id != transactions[end - 1].user_id:
                break
            end += 1
        taken = transactions[self.sliced : end]
        self.sliced = end
        return taken

    @property
    def is_sliced(self) -> bool:
        """Whether all of it was taken off."""
        return self.sliced == len(self.transactions)


class Tail:
    """Two generations: one that grows, and one, at times, that is being indexed."""

    def __init__(self) -> None:
        self.growing = Generation()
        self.indexing: Generation | None = None

    def __len__(self) -> int:
        old = self.indexing
        indexing = len(old.transactions) - old.sliced if old else 0
        return len(self.growing.transactions) + indexing

    def rotate(self) -> None:
        """Begin to index what has grown."""
        assert self.indexing is None
        self.indexing, self.growing = self.growing, Generation()
        self.indexing.sort()

    def account(self, user_id: str) -> Account | None:
        """Return the account, if it changed within the tail."""
        found = self.growing.state.accounts.get(user_id)
        if found is None and self.indexing is not None:
            return self.indexing.state.accounts.get(user_id)
        return found

    def bound(self, key: tuple[str, str]) -> Transaction | None:
        """Return the transaction that a key was bound to within the tail."""
        found = self.growing.state.keys.get(key)
        if found is None and self.indexing is not None:
            return self.indexing.state.keys.get(key)
        return found

    def charge(self, place: tuple[str, int]) -> Charge | None:
        """Return a transaction that was made or refunded within the tail."""
        found = self.growing.state.charges.get(place)
        if found is None and self.indexing is not None:
            return self.indexing.state.charges.get(place)
        return found

    def load(self, needs: Needs, state: State) -> Needs:
        """Put what is here of `needs` into `state`, and return what is not here."""
        accounts = {user_id: self.account(user_id) for user_id in needs.users}
        keys = {key: self.bound(key) for key in needs.keys}
        charges = {place: self.charge(place) for place in needs.charges}
        state.accounts.update({k: v for k, v in accounts.items() if v})
        state.keys.update({k: v for k, v in keys.items() if v})
        state.charges.update({k: v for k, v in charges.items() if v})
        return Needs(
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
        place = min(before - 1, account.transaction_count)
        while len(found) < limit and (charge := self.charge((user_id, place))):
            found.append(charge.transaction)
            place -= 1
        return found
