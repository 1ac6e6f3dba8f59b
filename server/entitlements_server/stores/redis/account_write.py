"""What a group writes for one user: how it is decided, and the redis command that stores it."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from entitlements_server.ledger.state import State
from entitlements_server.ledger.values import Account, Kind, Transaction, sequence_of
from entitlements_server.stores.redis.connection import COMMIT, Command
from entitlements_server.stores.redis.prefetch import Prefetch
from entitlements_server.stores.redis.schema import (
    CHUNK,
    UserKeys,
    write_account,
    write_refund,
    write_transaction,
)
from entitlements_server.stores.redis.topology import Request

_LEASE_AFTER = 3
"""Conflicts after which a write asks for the lease."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was decided for one user at one time.

    Attributes:
        write_id: Of this attempt, another one for each.
        transactions: To be stored: the next ones of the user. Maybe none.
        result: What to answer once they are.
        account: The account that follows.
        state: Knows the charges that the transactions refund.
    """

    write_id: str
    transactions: Sequence[Transaction]
    result: Any
    account: Account
    state: State

    @property
    def account_text(self) -> str:
        """The account as it will be stored."""
        return write_account(self.account, self.write_id)


Decide = Callable[[State], tuple[Sequence[Transaction], Any]]
"""Decide for one user: return what to store, and what to answer once it is. Updates the state."""


@dataclass(slots=True, eq=False)
class AccountWrite:
    """What a group writes for one user, on its way into the store.

    Attributes:
        keys: The user.
        names: Idempotency keys that the decision looks at.
        charges: Sequences of charges that it looks at.
        decide: The decision; it may be taken more than once.
        lease_id: Under which this write takes the lease: the write id of its first attempt.
        done: The attempt that was stored, at the end.
        state: What the next decision is taken on; None has to be loaded.
        account: The account in it as it is stored.
        unbound: The keys that the next decision takes to be unbound.
        optimistic: Whether that is a guess, which holds only if the script confirms it.
        doubtful: Attempts of which nobody knows whether they were stored.
        conflicts: How often it was decided in vain.
        losses: How often the connection broke.
    """

    keys: UserKeys
    names: Sequence[str]
    charges: Sequence[int]
    decide: Decide
    lease_id: str = ""
    done: Attempt | None = None
    state: State | None = None
    account: bytes = b""
    unbound: Sequence[str] = ()
    optimistic: bool = False
    doubtful: list[Attempt] = field(default_factory=list)
    conflicts: int = 0
    losses: int = 0

    def guess(self, account: Account, text: bytes) -> None:
        """Start from an account that is probably the newest, and keys that are probably new."""
        if self.charges or self.doubtful:
            self.state = None
            return
        self.state = State()
        if account.transaction_count:
            self.state.accounts[account.user_id] = account
        self.account = text
        self.unbound = self.names
        self.optimistic = True

    def prefetch(self) -> Prefetch:
        """What to read instead of guessing."""
        doubtful = [attempt.transactions[0].sequence for attempt in self.doubtful]
        return Prefetch(self.keys, self.names, self.charges, doubtful)

    def take(self, prefetch: Prefetch) -> None:
        """Settle attempts in doubt by what was read, or start from it."""
        for attempt, write_id in zip(self.doubtful, prefetch.write_ids, strict=True):
            if write_id == attempt.write_id:
                self.done = attempt
                return
        self.state = prefetch.state
        self.account = prefetch.account
        self.unbound = prefetch.unbound
        self.optimistic = False

    def attempt(self) -> Attempt | None:
        """Decide. None if the guess it was decided on cannot be confirmed without writing."""
        assert self.state is not None
        state, self.state = self.state, None
        transactions, result = self.decide(state)
        if not transactions and self.optimistic:
            return None
        write_id = secrets.token_urlsafe(6)
        self.lease_id = self.lease_id or write_id
        return Attempt(write_id, transactions, result, state.account(self.keys.user_id), state)

    def request(self, attempt: Attempt) -> Request:
        """The command that stores an attempt."""
        keys, transactions = self.keys, attempt.transactions
        bound: list[str | int] = []
        refunds: dict[int, str] = {}
        for transaction in transactions:
            if transaction.binds_key:
                bound += (transaction.idempotency_key, transaction.sequence)
            if transaction.kind is Kind.REFUND:
                charge_sequence = sequence_of(transaction.refunded_transaction_id)
                assert charge_sequence is not None
                charge = attempt.state.charges[keys.user_id, charge_sequence]
                assert charge.last_refund is not None
                refunds[charge_sequence] = write_refund(
                    charge.refunded, charge.last_refund.sequence
                )
        pairs: list[str | int] = [text for item in refunds.items() for text in item]
        chunks: list[str] = []
        rows: list[str | int] = []
        for chunk, of_chunk in groupby(transactions, lambda one: (one.sequence - 1) // CHUNK):
            texts = [write_transaction(transaction, attempt.write_id) for transaction in of_chunk]
            chunks.append(keys.chunk(chunk))
            rows += (len(texts), *texts)
        command: Command = (
            *(COMMIT, 5 + len(chunks)),
            *(keys.accounts, keys.users, keys.bound, keys.refunds, keys.lease, *chunks),
            *(keys.user_id, self.account, attempt.account_text),
            *(self.lease_id, "1" if self.conflicts >= _LEASE_AFTER else ""),
            len(self.unbound),
            *self.unbound,
            len(bound),
            *bound,
            len(pairs),
            *pairs,
            *rows,
        )
        return Request(keys.bucket, command)
