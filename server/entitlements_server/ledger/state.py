"""The state that transactions amount to, and how a group of commands is decided on it.

Every store uses this: the memory store keeps one `State` for good; the others prefetch into one
what a group reads, decide, and make the new transactions durable.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.ledger.decide import Outcome, Recorded, Rule
from entitlements_server.ledger.values import (
    NO_FACTS,
    Account,
    Charge,
    Facts,
    Kind,
    Transaction,
    sequence_of,
)

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class ReadSet:
    """What a group reads before it is decided: the users, keys and charges that it names."""

    users: frozenset[str]
    keys: frozenset[tuple[str, str]]
    charges: frozenset[tuple[str, int]]

    @classmethod
    def of_transactions(cls, transactions: Iterable[Transaction]) -> "ReadSet":
        """Return what `transactions` read: users, keys, and the charges they refund."""
        users: set[str] = set()
        keys: set[tuple[str, str]] = set()
        charges: set[tuple[str, int]] = set()
        for transaction in transactions:
            users.add(transaction.user_id)
            if transaction.binds_key:
                keys.add((transaction.user_id, transaction.idempotency_key))
            sequence = sequence_of(transaction.refunded_transaction_id)
            if sequence is not None:
                charges.add((transaction.user_id, sequence))
        return cls(frozenset(users), frozenset(keys), frozenset(charges))

    @classmethod
    def of(cls, commands: Iterable[Command]) -> "ReadSet":
        """Return what `commands` read."""
        users: set[str] = set()
        keys: set[tuple[str, str]] = set()
        charges: set[tuple[str, int]] = set()
        for command in commands:
            users.add(command.user_id)
            if command.idempotency_key:
                keys.add((command.user_id, command.idempotency_key))
            if isinstance(command, Refund):
                sequence = sequence_of(command.transaction_id)
                if sequence is not None:
                    charges.add((command.user_id, sequence))
        return cls(frozenset(users), frozenset(keys), frozenset(charges))


@dataclass(slots=True)
class State:
    """Accounts, bound keys and charges, as far as they are known here.

    Attributes:
        accounts: By user id. An absent one has no transactions.
        keys: The transaction that each (user id, idempotency key) is bound to.
        charges: By (user id, sequence): transactions that refunds may name.
    """

    accounts: MutableMapping[str, Account] = field(default_factory=dict)
    keys: MutableMapping[tuple[str, str], Transaction] = field(default_factory=dict)
    charges: MutableMapping[tuple[str, int], Charge] = field(default_factory=dict)

    def select(self, read_set: ReadSet) -> "State":
        """Copy what is known of `read_set`."""
        return State(
            _only(self.accounts, read_set.users),
            _only(self.keys, read_set.keys),
            _only(self.charges, read_set.charges),
        )

    def account(self, user_id: str) -> Account:
        """Return the account of a user: an empty one if nobody wrote to it."""
        return self.accounts.get(user_id) or Account(user_id)

    def facts(self, command: Command) -> Facts:
        """Gather what `decide` has to know about `command`."""
        bound = None
        if command.idempotency_key:
            bound = self.keys.get((command.user_id, command.idempotency_key))
        charge = None
        if isinstance(command, Refund):
            charge = self.charge(command.user_id, command.transaction_id)
        return Facts(bound, charge) if bound or charge else NO_FACTS

    def charge(self, user_id: str, transaction_id: str) -> Charge | None:
        """Find the transaction of exactly this id, with what was refunded of it."""
        sequence = sequence_of(transaction_id)
        charge = self.charges.get((user_id, sequence)) if sequence is not None else None
        if charge is None or charge.transaction.transaction_id != transaction_id:
            return None
        return charge

    def apply(self, transaction: Transaction) -> None:
        """Take in the next transaction of its user.

        The only place that says what a transaction does to an account, a key and a charge.
        """
        user_id = transaction.user_id
        account = self.account(user_id)
        assert transaction.sequence == account.transaction_count + 1
        assert transaction.balance_before == account.balance
        self.accounts[user_id] = account_after(account, transaction)
        if transaction.binds_key:
            self.keys[user_id, transaction.idempotency_key] = transaction
        self.charges[user_id, transaction.sequence] = Charge(transaction)
        if transaction.kind is Kind.REFUND:
            charge = self.charge(user_id, transaction.refunded_transaction_id)
            assert charge is not None
            self.charges[user_id, charge.transaction.sequence] = Charge(
                charge.transaction, charge.refunded + transaction.amount, transaction
            )


def account_after(account: Account, transaction: Transaction) -> Account:
    """Return what `account` is once `transaction`, its next one, is recorded."""
    return Account(
        account.user_id,
        transaction.balance_after,
        transaction.sequence,
        account.create_time_us or transaction.create_time_us,
        transaction.create_time_us,
    )


def check_next(state: State, transactions: Iterable[Transaction]) -> None:
    """Require that each transaction is the next one of its user, starting from `state`.

    Args:
        state: Knows at least `ReadSet.of_transactions(transactions)`; stays as it is.
        transactions: For any users.

    Raises:
        ValueError: One is not: what it says contradicts the history before it.
    """
    after = State(
        ChainMap({}, state.accounts), ChainMap({}, state.keys), ChainMap({}, state.charges)
    )
    for transaction in transactions:
        problem = _problem(after, transaction)
        if problem:
            raise ValueError(
                f"Transaction '{transaction.transaction_id}' is not the next one of user"
                f" '{transaction.user_id}': {problem}."
            )
        after.apply(transaction)


def _problem(state: State, transaction: Transaction) -> str | None:
    """Say in what way a transaction contradicts the history before it, if it does."""
    account = state.account(transaction.user_id)
    if transaction.sequence != account.transaction_count + 1:
        return f"its sequence should be {account.transaction_count + 1}"
    if transaction.balance_before != account.balance:
        return f"the balance before it is {account.balance}, not {transaction.balance_before}"
    if transaction.create_time_us < account.update_time_us:
        return "it is older than the one before it"
    key = (transaction.user_id, transaction.idempotency_key)
    if transaction.binds_key and key in state.keys:
        return f"its key '{transaction.idempotency_key}' is bound already"
    refunded = transaction.refunded_transaction_id
    if bool(refunded) != (transaction.kind is Kind.REFUND):
        return "a refund, and nothing else, names a charge"
    if refunded:
        charge = state.charge(transaction.user_id, refunded)
        if charge is None or not charge.took_tokens:
            return f"'{refunded}' is no charge of that user"
        if not 0 < transaction.amount <= charge.remaining:
            return f"{charge.remaining} tokens remain of the charge it refunds"
    return None


def _only(mapping: Mapping[_Key, _Value], keys: Iterable[_Key]) -> dict[_Key, _Value]:
    return {key: mapping[key] for key in keys if key in mapping}


def decide_group(state: State, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
    """Decide commands in order, each on the state that those before it left.

    Args:
        state: Knows at least `ReadSet.of(commands)`; takes in what is recorded.
        commands: For any users.
        rule: The rules with catalogue and time filled in.

    Returns:
        One outcome for each command, in their order.
    """
    outcomes: list[Outcome] = []
    for command in commands:
        outcome = rule(state.account(command.user_id), state.facts(command), command)
        if isinstance(outcome, Recorded):
            state.apply(outcome.transaction)
        outcomes.append(outcome)
    return outcomes


def recorded(outcomes: Iterable[Outcome]) -> list[Transaction]:
    """Pick the transactions that have to be made durable."""
    return [outcome.transaction for outcome in outcomes if isinstance(outcome, Recorded)]
