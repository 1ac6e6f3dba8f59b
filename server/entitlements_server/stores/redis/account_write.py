"""What a group writes for one user: the decision, and the Redis command that stores it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from entitlements_server.ledger.state import Entry, State
from entitlements_server.ledger.values import Account, Kind, sequence_of
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.redis.codec import (
    write_account,
    write_change,
    write_refund,
    write_transaction,
)
from entitlements_server.stores.redis.connection import COMMIT
from entitlements_server.stores.redis.prefetch import Prefetch
from entitlements_server.stores.redis.schema import CHUNK, UserKeys
from entitlements_server.stores.redis.topology import Request
from entitlements_server.stores.user_writes import Decide

_LEASE_AFTER = 3
"""Conflicts before a write takes the lease."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One decision for one user.

    Attributes:
        write_id: Unique id of the attempt.
        entries: The transactions to store. May be empty.
        result: The answer once they are stored.
        account: The account after them.
        account_text: The same account as it will be stored.
        state: Has the refunded charges, and the due time if it changed.
    """

    write_id: str
    entries: Sequence[Entry]
    result: Any
    account: Account
    account_text: bytes
    state: State


@dataclass(slots=True, eq=False)
class AccountWrite:
    """The pending write of a group for one user.

    Attributes:
        keys: The user.
        names: Idempotency keys in the read set.
        windows: Names of access windows in the read set. An account that never had any has none bound.
        charges: Sequences of charges in the read set.
        decide: Makes the decision. May be called more than once.
        lease_id: Identifies this write when it takes the lease: the write id of its first attempt.
        done: The attempt that was stored, once there is one.
        error: Why it is given up, once it is.
        state: The state for the next decision; None: it must be prefetched.
        account: The account in that state as it is stored.
        bindings: What the next decision assumes each key to be bound to: a sequence, or 0 for
            none.
        optimistic: Whether state and bindings are a guess, which the script must confirm.
        doubtful: Attempts that may or may not have been stored.
        conflicts: How often an attempt was not stored.
        losses: How often the connection was lost.
    """

    keys: UserKeys
    names: Sequence[str]
    windows: Sequence[str]
    charges: Sequence[int]
    decide: Decide
    lease_id: str = ""
    done: Attempt | None = None
    error: Exception | None = None
    state: State | None = None
    account: bytes = b""
    bindings: Mapping[str, int] = field(default_factory=dict)
    optimistic: bool = False
    doubtful: list[Attempt] = field(default_factory=list)
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

    def guess(self, account: Account, text: bytes) -> None:
        """Assume that an account is the newest and that the keys are new."""
        if self.charges or self.doubtful:
            self.state = None
            return
        self.state = State()
        if account.transaction_count:
            self.state.accounts[account.user_id] = account
        self.account = text
        windows = self.windows if account.access_until_us else ()
        self.bindings = dict.fromkeys((*self.names, *windows), 0)
        self.optimistic = True

    def prefetch(self) -> Prefetch:
        """Return what to read instead of guessing."""
        doubtful = [attempt.entries[0].transaction.sequence for attempt in self.doubtful]
        return Prefetch(self.keys, (*self.names, *self.windows), self.charges, doubtful)

    def take(self, prefetch: Prefetch) -> None:
        """Use what was read: to settle doubtful attempts, or as the next state."""
        for attempt, write_id in zip(self.doubtful, prefetch.write_ids, strict=True):
            if write_id == attempt.write_id:
                self.done = attempt
                return
        self.state = prefetch.state
        self.account = prefetch.account
        self.bindings = prefetch.bindings
        self.optimistic = False

    def attempt(self) -> Attempt | None:
        """Decide. None if a guess was used that only a write could confirm."""
        assert self.state is not None
        state, self.state = self.state, None
        entries, result = self.decide(state)
        if not entries and self.optimistic:
            return None
        write_id = secrets.token_urlsafe(6)
        self.lease_id = self.lease_id or write_id
        account = state.account(self.keys.user_id)
        return Attempt(write_id, entries, result, account, write_account(account, write_id), state)

    def request(self, attempt: Attempt) -> Request:
        """Return the Redis command that stores an attempt."""
        keys, state = self.keys, attempt.state
        transactions = [entry.transaction for entry in attempt.entries]
        bound: dict[str, int] = {}
        refunds: dict[int, str] = {}
        for transaction in transactions:
            bound.update(dict.fromkeys(transaction.names, transaction.sequence))
            if transaction.kind is Kind.REFUND:
                charge_sequence = sequence_of(transaction.refunded_transaction_id)
                assert charge_sequence is not None
                charge = state.charges[keys.user_id, charge_sequence]
                assert charge.last_refund is not None
                refunds[charge_sequence] = write_refund(
                    charge.refunded, charge.last_refund.sequence
                )
        chunks: list[str] = []
        rows: list[int | bytes] = []
        for chunk, of_chunk in groupby(attempt.entries, _chunk_of):
            texts = [write_transaction(entry, attempt.write_id) for entry in of_chunk]
            chunks.append(keys.chunk(chunk))
            rows += (len(texts), *texts)
        fixed = (
            *(keys.accounts, keys.users, keys.bound, keys.refunds),
            *(keys.lease, keys.due, keys.changes),
        )
        change = write_change(keys.user_id, transactions[0].sequence, transactions[-1].sequence)
        command: list[str | int | bytes] = [COMMIT, len(fixed) + len(chunks), *fixed, *chunks]
        command += (keys.user_id, self.account, attempt.account_text)
        command += (self.lease_id, "1" if self.conflicts >= _LEASE_AFTER else "")
        there = (transactions[0].sequence - 1) % CHUNK
        command += (state.due.get(keys.user_id, ""), change, there)
        command += (*_listed(self.bindings), *_listed(bound), *_listed(refunds), *rows)
        return Request(keys.bucket, command)


def _chunk_of(entry: Entry) -> int:
    return (entry.transaction.sequence - 1) // CHUNK


def _listed(pairs: Mapping[Any, Any]) -> list[Any]:
    """Return keys and values as a list for the script: its length, then the items."""
    return [2 * len(pairs), *(item for pair in pairs.items() for item in pair)]
