"""What a group writes for one user: the decision, and the arguments of the statement that stores it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entitlements_server.ledger.state import Entry, State
from entitlements_server.ledger.values import Account, Kind, sequence_of
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.postgresql.codec import write_account, write_transaction
from entitlements_server.stores.postgresql.prefetch import Prefetch
from entitlements_server.stores.user_writes import Decide

MAX_COMMANDS = 250
"""Commands that one statement stores, unless one user has more."""

_WRITE_ID_BITS = 63


@dataclass(frozen=True, slots=True)
class Attempt:
    """One decision for one user.

    Attributes:
        base: The write id of the account that it was decided on; 0: there was none.
        write_id: Random id of the attempt, which the account has once it is stored.
        entries: The transactions to store. None: it is a fence, see `AccountWrite.attempt`.
        result: The answer once they are stored.
        account: The account after them.
        text: The same account as it will be stored.
        state: Has the refunded charges, and the due time if it changed.
        bindings: What it presumes each key to be bound to: a sequence, or 0 for none.
    """

    base: int
    write_id: int
    entries: Sequence[Entry]
    result: Any
    account: Account
    text: bytes
    state: State
    bindings: Mapping[str, int]


@dataclass(slots=True, eq=False)
class AccountWrite:
    """The pending write of a group for one user.

    Attributes:
        user_id: The user.
        size: How many commands or transactions it is of.
        names: Idempotency keys in the read set.
        windows: Names of access windows in the read set. An account that never had any has none bound.
        charges: Sequences of charges in the read set.
        decide: Makes the decision. May be called more than once.
        done: The attempt that was stored, once there is one.
        error: Why it is given up, once it is.
        state: The state for the next decision; None: it must be prefetched.
        base: The write id of the account in that state.
        text: That account as it is stored.
        bindings: What the next decision presumes each key to be bound to.
        optimistic: Whether state and bindings are a guess, which the statement must confirm.
        doubtful: Attempts that may or may not have been stored, or may yet be.
        settled: Whether `done` was found after its reply had been lost.
        conflicts: How often an attempt was not stored.
        losses: How often the connection was lost.
    """

    user_id: str
    size: int
    names: Sequence[str]
    windows: Sequence[str]
    charges: Sequence[int]
    decide: Decide
    done: Attempt | None = None
    error: Exception | None = None
    state: State | None = None
    base: int = 0
    text: bytes = b""
    bindings: Mapping[str, int] = field(default_factory=dict)
    optimistic: bool = False
    doubtful: list[Attempt] = field(default_factory=list)
    settled: bool = False
    conflicts: int = 0
    losses: int = 0

    @property
    def is_pending(self) -> bool:
        """See UserWrite."""
        return self.done is None and self.error is None

    @property
    def answer(self) -> Any:
        """See UserWrite."""
        return self.done.result if self.done is not None else None

    def fail(self, error: Exception) -> None:
        """Give up this write. Others of its group go on."""
        if self.doubtful and not isinstance(error, StoreUnavailableError):
            # An earlier attempt may have been stored, which no other error may leave open.
            unknown = StoreUnavailableError(str(error))
            unknown.__cause__ = error
            error = unknown
        self.error = error

    def guess(self, account: Account, write_id: int, text: bytes) -> None:
        """Assume that an account is the newest and that the keys are new."""
        if self.charges:
            return
        self.state = State()
        if account.transaction_count:
            self.state.accounts[account.user_id] = account
        self.base, self.text = write_id, text
        windows = self.windows if account.access_until_us else ()
        self.bindings = dict.fromkeys((*self.names, *windows), 0)
        self.optimistic = True

    def prefetch(self) -> Prefetch:
        """Return what to read instead of guessing."""
        doubtful = [attempt.entries[0].transaction.sequence for attempt in self.doubtful]
        return Prefetch(self.user_id, (*self.names, *self.windows), self.charges, doubtful)

    def take(self, prefetch: Prefetch) -> None:
        """Use what was read: to settle doubtful attempts, or as the next state."""
        if prefetch.error is not None:
            self.fail(prefetch.error)
            return
        for attempt in self.doubtful:
            if prefetch.write_ids.get(attempt.entries[0].transaction.sequence) == attempt.write_id:
                self.done, self.settled = attempt, True
                return
        # One that was decided on another account than this can be stored no more. One that was
        # decided on this account still can: its statement may be waiting, whatever became of its
        # connection.
        self.doubtful = [one for one in self.doubtful if one.base == prefetch.write_id]
        self.state = prefetch.state
        self.base, self.text = prefetch.write_id, prefetch.text
        self.bindings = prefetch.bindings
        self.optimistic = False

    def attempt(self) -> Attempt | None:
        """Decide. None if a guess was used that only a write could confirm.

        If nothing is recorded and an earlier attempt may yet be stored, the answer needs a fence: the
        account is stored as it is, under a new write id.
        """
        assert self.state is not None
        state, self.state = self.state, None
        entries, result = self.decide(state)
        if not entries and self.optimistic:
            return None
        account = state.account(self.user_id)
        text = write_account(account) if entries else self.text
        write_id = secrets.randbits(_WRITE_ID_BITS) | 1
        return Attempt(self.base, write_id, entries, result, account, text, state, self.bindings)

    def needs_storing(self, attempt: Attempt) -> bool:
        """Whether an attempt must be stored before it is answered."""
        return bool(attempt.entries or self.doubtful)


def arguments(attempts: Sequence[Attempt]) -> list[list[Any]]:
    """Return the arguments of sql/commit.sql after the first."""
    accounts: list[Any] = [[], [], [], []]
    presumed: list[Any] = [[], [], [], []]
    rows: list[Any] = [[], [], []]
    bound: list[Any] = [[], [], []]
    refunds: list[Any] = [[], [], [], []]
    due: list[Any] = [[], []]
    for attempt in attempts:
        write_id, user_id = attempt.write_id, attempt.account.user_id
        _add(accounts, user_id, attempt.base, write_id, attempt.text)
        for key, sequence in attempt.bindings.items():
            _add(presumed, write_id, user_id, key, sequence)
        keys: dict[str, int] = {}
        charges: dict[int, tuple[int, int]] = {}
        for entry in attempt.entries:
            transaction = entry.transaction
            _add(rows, write_id, transaction.sequence, write_transaction(entry))
            keys.update(dict.fromkeys(transaction.names, transaction.sequence))
            if transaction.kind is Kind.REFUND:
                charge = sequence_of(transaction.refunded_transaction_id)
                assert charge is not None
                refunded = attempt.state.charges[user_id, charge]
                assert refunded.last_refund is not None
                charges[charge] = (refunded.refunded, refunded.last_refund.sequence)
        for key, sequence in keys.items():
            _add(bound, write_id, key, sequence)
        for charge, (total, newest) in charges.items():
            _add(refunds, write_id, charge, total, newest)
        if user_id in attempt.state.due:
            _add(due, write_id, attempt.state.due[user_id])
    return [*accounts, *presumed, *rows, *bound, *refunds, *due]


def _add(columns: Sequence[list[Any]], *values: Any) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)
