"""The newest transactions, in memory: durable in the commit log, not in the tables yet."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from entitlements_server.ledger.state import Entry, ReadSet, State
from entitlements_server.ledger.values import Account, Charge, Transaction

_Item = TypeVar("_Item")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

POSITIONS_A_GROUP = 4096
"""Positions in the change feed per position in the commit log."""


Change = tuple[int, Entry]
"""A position in the change feed, and the entry recorded there."""


def numbered(position: int, items: Iterable[_Item]) -> Iterator[tuple[int, _Item]]:
    """Number the entries of a group with their positions in the change feed."""
    return enumerate(items, position * POSITIONS_A_GROUP)


def by_user(changes: Iterable[Change]) -> list[Change]:
    """Sort by user, so that neighbours share pages. Changes of one user stay in order."""
    return sorted(changes, key=_user_of)


def _user_of(change: Change) -> str:
    return change[1].account.user_id


@dataclass(slots=True)
class Segment:
    """Transactions that are flushed together, and the state after them.

    Attributes:
        state: The newest accounts, keys, charges and due times of the users in it.
        changes: In the order of the commit log; after sealing, sorted by user.
        taken: How many of the sorted changes were taken for flushing.
        position: Position of its last group in the commit log.
    """

    state: State = field(default_factory=State)
    changes: list[Change] = field(default_factory=list)
    taken: int = 0
    position: int = 0

    def add(self, entries: Sequence[Entry], state: State, position: int) -> None:
        """Add a durable group and the state after it."""
        self.state.update(state)
        self.changes += numbered(position, entries)
        self.position = position

    def sort(self) -> None:
        """Sort by user. Changes of one user stay in order."""
        self.changes.sort(key=_user_of)

    def take_batch(self, size: int) -> list[Change]:
        """Take the next changes, at most `size`."""
        batch = self.changes[self.taken : self.taken + size]
        self.taken += len(batch)
        return batch

    @property
    def is_drained(self) -> bool:
        """Whether all changes were taken."""
        return self.taken == len(self.changes)


_NOTHING = State()


def _take(
    wanted: Iterable[_Key],
    new: Mapping[_Key, _Value],
    old: Mapping[_Key, _Value],
    found: MutableMapping[_Key, _Value],
) -> frozenset[_Key]:
    """Add what is known of `wanted` to `found`, and return the rest."""
    missing: list[_Key] = []
    for key in wanted:
        value = new.get(key) or old.get(key)
        if value is None:
            missing.append(key)
        else:
            found[key] = value
    return frozenset(missing)


class Memtable:
    """Two segments: one that grows and, at times, one that is sealed and being flushed."""

    def __init__(self) -> None:
        self.active = Segment()
        self.sealed: Segment | None = None

    def __len__(self) -> int:
        old = self.sealed
        unflushed = len(old.changes) - old.taken if old else 0
        return len(self.active.changes) + unflushed

    def seal(self) -> None:
        """Seal the active segment, so that it can be flushed, and begin a new one."""
        assert self.sealed is None
        # Set sealed first: other threads must find its contents at every moment.
        self.sealed = self.active
        self.active = Segment()
        self.sealed.sort()

    def account(self, user_id: str) -> Account | None:
        """Return the account, if it changed in the memtable. May be called from any thread."""
        found = self.active.state.accounts.get(user_id)
        if found is None and (sealed := self.sealed) is not None:
            return sealed.state.accounts.get(user_id)
        return found

    def bound(self, key: tuple[str, str]) -> Transaction | None:
        """Return the transaction that a key was bound to in the memtable."""
        found = self.active.state.keys.get(key)
        if found is None and self.sealed is not None:
            return self.sealed.state.keys.get(key)
        return found

    def charge(self, key: tuple[str, int]) -> Charge | None:
        """Return a transaction that was recorded or refunded in the memtable."""
        found = self.active.state.charges.get(key)
        if found is None and self.sealed is not None:
            return self.sealed.state.charges.get(key)
        return found

    def due(self) -> dict[str, int]:
        """Return the next due time of each user for whom it changed in the memtable."""
        sealed = self.sealed.state.due if self.sealed is not None else {}
        return {**sealed, **self.active.state.due}

    def prefetch_accounts(self, users: frozenset[str], state: State) -> frozenset[str]:
        """Add the accounts that the memtable has to `state`, and return the other users."""
        new, old = self.active.state, self.sealed.state if self.sealed else _NOTHING
        return _take(users, new.accounts, old.accounts, state.accounts)

    def prefetch(self, read_set: ReadSet, state: State) -> ReadSet:
        """Add what the memtable has of the keys and charges to `state`, and return the rest."""
        new, old = self.active.state, self.sealed.state if self.sealed else _NOTHING
        keys = _take(read_set.keys, new.keys, old.keys, state.keys)
        bound = {(user_id, one.sequence) for (user_id, _), one in state.keys.items()}
        wanted = read_set.charges | bound if bound else read_set.charges
        charges = _take(wanted, new.charges, old.charges, state.charges)
        assert not bound & charges
        return ReadSet(read_set.users, keys, charges)

    @property
    def newest_charge(self) -> Callable[[tuple[str, int]], Charge | None]:
        """`charge`, as the memtable is now: for another thread."""
        new, old = self.active.state, self.sealed.state if self.sealed else _NOTHING
        return lambda key: new.charges.get(key) or old.charges.get(key)

    def history(self, user_id: str, before: int, limit: int) -> list[Transaction]:
        """Read the newest transactions below `before`, until one is not in the memtable."""
        account = self.account(user_id)
        if account is None:
            return []
        found: list[Transaction] = []
        sequence = min(before - 1, account.transaction_count)
        while len(found) < limit and (charge := self.charge((user_id, sequence))):
            found.append(charge.transaction)
            sequence -= 1
        return found
