"""The state that transactions add up to, and how a group of commands is decided on it.

Every store uses this. The memory store keeps one `State` for good. The others prefetch a group's read
set into a new one, decide, and make the new transactions durable.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from msgspec import Struct

from entitlements_server.ledger import invariants
from entitlements_server.ledger.commands import Command, Consume, Refund
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.outcomes import Outcome
from entitlements_server.ledger.values import (
    NO_FACTS,
    Account,
    Charge,
    Facts,
    Kind,
    Transaction,
    sequence_of,
)
from entitlements_server.ledger.windows import window_of

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_REFUND = Kind.REFUND  # looked up only once: see values.py


@dataclass(frozen=True, slots=True)
class ReadSet:
    """What must be read before a group is decided: the users, keys and charges that it names.

    What a key is bound to is read with what was refunded of it.

    Attributes:
        users: Ids of the users.
        keys: Users and idempotency keys.
        charges: Users and sequences of the charges that refunds name.
        windows: Users and names of access windows that may be open. They are bound as keys are, but
            need not be read where the account never had any: see `narrowed`.
    """

    users: frozenset[str]
    keys: frozenset[tuple[str, str]]
    charges: frozenset[tuple[str, int]]
    windows: frozenset[tuple[str, str]] = frozenset()

    def narrowed(self, known: Callable[[str], Account | None]) -> "ReadSet":
        """Return it with those windows among the keys that must be read.

        Args:
            known: Returns the account of a user, if it is known without reading it.
        """
        if not self.windows:
            return self
        needed = []
        for window in self.windows:
            account = known(window[0])
            if account is None or account.access_until_us:
                needed.append(window)
        return ReadSet(self.users, self.keys.union(needed), self.charges)

    def halves(self) -> "tuple[ReadSet, ReadSet] | None":
        """Split it, first between users. None if it names only one thing."""
        users = {*self.users, *(user for user, _ in self.keys), *(user for user, _ in self.charges)}
        if len(users) > 1:
            first_users = set(sorted(users)[: len(users) // 2])
            first = ReadSet(
                self.users & first_users,
                frozenset(one for one in self.keys if one[0] in first_users),
                frozenset(one for one in self.charges if one[0] in first_users),
            )
        elif self.users and (self.keys or self.charges):
            first = ReadSet(self.users, frozenset(), frozenset())
        elif self.keys and self.charges:
            first = ReadSet(frozenset(), self.keys, frozenset())
        elif len(self.keys) + len(self.charges) > 1:
            half = (len(self.keys) + len(self.charges)) // 2
            keys, charges = sorted(self.keys)[:half], sorted(self.charges)[:half]
            first = ReadSet(frozenset(), frozenset(keys), frozenset(charges))
        else:
            return None
        rest = ReadSet(
            self.users - first.users, self.keys - first.keys, self.charges - first.charges
        )
        return first, rest

    @classmethod
    def of_transactions(cls, transactions: Iterable[Transaction]) -> "ReadSet":
        """Return the read set of `transactions`: users, keys, and the charges they refund."""
        users: set[str] = set()
        keys: set[tuple[str, str]] = set()
        charges: set[tuple[str, int]] = set()
        for transaction in transactions:
            users.add(transaction.user_id)
            for name in transaction.names:
                keys.add((transaction.user_id, name))
            sequence = sequence_of(transaction.refunded_transaction_id)
            if sequence is not None:
                charges.add((transaction.user_id, sequence))
        return cls(frozenset(users), frozenset(keys), frozenset(charges))

    @classmethod
    def of(cls, commands: Iterable[Command]) -> "ReadSet":
        """Return the read set of `commands`."""
        users: set[str] = set()
        keys: set[tuple[str, str]] = set()
        charges: set[tuple[str, int]] = set()
        windows: set[tuple[str, str]] = set()
        for command in commands:
            users.add(command.user_id)
            if command.idempotency_key:
                keys.add((command.user_id, command.idempotency_key))
            if isinstance(command, Consume):
                if window := window_of(command):
                    windows.add((command.user_id, window))
            elif isinstance(command, Refund):
                sequence = sequence_of(command.transaction_id)
                if sequence is not None:
                    charges.add((command.user_id, sequence))
        return cls(frozenset(users), frozenset(keys), frozenset(charges), frozenset(windows))


class Entry(Struct, frozen=True, gc=False):
    """A transaction as it enters the ledger.

    Attributes:
        transaction: The next one of its user.
        stored: The same transaction as it is stored: see `encoding.py`.
        account: The account after it.
        refunded: For a refund, its charge after it.
    """

    transaction: Transaction
    stored: bytes
    account: Account
    refunded: Charge | None = None


class Decided(NamedTuple):
    """The decisions about a group.

    Attributes:
        outcomes: One for each command, in order.
        entries: Everything to make durable, in order.
    """

    outcomes: list[Outcome]
    entries: list[Entry]


@dataclass(slots=True)
class State:
    """The known accounts, bound keys and charges.

    Attributes:
        accounts: By user id. An absent one has no transactions.
        keys: The transaction that each (user id, idempotency key) is bound to, and the charge that
            opened each (user id, access window).
        charges: By (user id, sequence): the transactions that refunds may name or keys are bound to.
        due: The next due time of each user for whom it changed: microseconds since 1970 UTC; 0
            if there is none any longer.
    """

    accounts: MutableMapping[str, Account] = field(default_factory=dict)
    keys: MutableMapping[tuple[str, str], Transaction] = field(default_factory=dict)
    charges: MutableMapping[tuple[str, int], Charge] = field(default_factory=dict)
    due: MutableMapping[str, int] = field(default_factory=dict)

    def select(self, read_set: ReadSet) -> "State":
        """Copy what is known about `read_set`."""
        keys = _only(self.keys, read_set.narrowed(self.accounts.get).keys)
        bound = {(user_id, one.sequence) for (user_id, _), one in keys.items()}
        return State(
            _only(self.accounts, read_set.users),
            keys,
            _only(self.charges, read_set.charges | bound),
        )

    def copy(self) -> "State":
        """Copy everything."""
        return State(dict(self.accounts), dict(self.keys), dict(self.charges))

    def update(self, newer: "State") -> None:
        """Add everything in `newer`."""
        self.accounts.update(newer.accounts)
        self.keys.update(newer.keys)
        self.charges.update(newer.charges)
        self.due.update(newer.due)

    def account(self, user_id: str) -> Account:
        """Return the account of a user: an empty one if it has no transactions."""
        return self.accounts.get(user_id) or Account(user_id)

    def facts(self, command: Command) -> Facts:
        """Return what `decide` must know about `command`."""
        user_id = command.user_id
        bound = charge = opened = None
        refunded = 0
        if command.idempotency_key:
            bound = self.keys.get((user_id, command.idempotency_key))
            if bound is not None:
                refunded = self._with_refunds(bound).refunded
        if isinstance(command, Consume):
            opened = self.opened(user_id, window_of(command))
        elif isinstance(command, Refund):
            charge = self.charge(user_id, command.transaction_id)
        if bound is None and charge is None and opened is None:
            return NO_FACTS
        return Facts(bound, charge, refunded, opened)

    def opened(self, user_id: str, window: str) -> Charge | None:
        """Return the newest charge that opened an access window, and what was refunded of it."""
        found = self.keys.get((user_id, window)) if window else None
        return None if found is None else self._with_refunds(found)

    def _with_refunds(self, transaction: Transaction) -> Charge:
        """Return a transaction that a key is bound to, and what was refunded of it."""
        return self.charges[transaction.user_id, transaction.sequence]

    def charge(self, user_id: str, transaction_id: str) -> Charge | None:
        """Return the transaction with exactly this id and what was refunded of it."""
        sequence = sequence_of(transaction_id)
        charge = self.charges.get((user_id, sequence)) if sequence is not None else None
        if charge is None or charge.transaction.transaction_id != transaction_id:
            return None
        return charge

    def apply(self, transaction: Transaction) -> Entry:
        """Apply the next transaction of its user, and return it with the account after it.

        This alone defines what a transaction does to an account, a key and a charge.
        """
        user_id = transaction.user_id
        before = self.account(user_id)
        sequence = transaction.sequence
        assert sequence == before.transaction_count + 1
        assert transaction.balance_after - transaction.amount == before.balance
        stored = encode_transaction(transaction)
        account = account_after(before, transaction, stored)
        self.accounts[user_id] = account
        if account.due_us != before.due_us:
            self.due[user_id] = account.due_us
        for name in transaction.names:
            self.keys[user_id, name] = transaction
        self.charges[user_id, sequence] = Charge(transaction)
        if transaction.kind is _REFUND:
            charge = self.charge(user_id, transaction.refunded_transaction_id)
            assert charge is not None
            refunded = Charge(charge.transaction, charge.refunded + transaction.amount, transaction)
            self.charges[user_id, charge.transaction.sequence] = refunded
            return Entry(transaction, stored, account, refunded)
        return Entry(transaction, stored, account)


def append_all(state: State, transactions: Iterable[Transaction]) -> list[Entry]:
    """Check and apply transactions, each the next one of its user.

    Args:
        state: Has at least `ReadSet.of_transactions(transactions)`; the transactions are applied
            to it.
        transactions: Of any users.

    Returns:
        What to make durable.

    Raises:
        ValueError: A transaction contradicts the history before it. `state` is unchanged.
    """
    after = State(
        ChainMap({}, state.accounts), ChainMap({}, state.keys), ChainMap({}, state.charges)
    )
    entries: list[Entry] = []
    for transaction in transactions:
        user_id = transaction.user_id
        facts = Facts(
            after.keys.get((user_id, transaction.idempotency_key)),
            after.charge(user_id, transaction.refunded_transaction_id),
            window=after.opened(user_id, transaction.window),
        )
        problems = invariants.violations(after.account(user_id), facts, transaction)
        for problem in problems:
            raise ValueError(
                f"Transaction '{transaction.transaction_id}' cannot be the next one of user"
                f" '{user_id}': {problem}."
            )
        entries.append(after.apply(transaction))
    state.update(after)
    return entries


def _only(mapping: Mapping[_Key, _Value], keys: Iterable[_Key]) -> dict[_Key, _Value]:
    return {key: mapping[key] for key in keys if key in mapping}


def decide_group(state: State, commands: Sequence[Command], rule: Rule) -> Decided:
    """Decide commands in order, each on the state after the one before.

    Args:
        state: Has at least `ReadSet.of(commands)`; what is recorded is applied to it.
        commands: Of any users.
        rule: The rules, with catalogue and time bound.
    """
    outcomes: list[Outcome] = []
    entries: list[Entry] = []
    for command in commands:
        outcome = rule(state.account(command.user_id), state.facts(command), command)
        for transaction in outcome.transactions:
            entries.append(state.apply(transaction))  # noqa: PERF401  # there is nearly always one
        outcomes.append(outcome)
    return Decided(outcomes, entries)
