"""What must be true of every history: one list, used by append, copy, verify and the tests.

An invariant compares a transaction with what came before it and describes any contradiction. Those
in `SUCCESSION` need the account, those in `KEYS` the transaction that a key is bound to, and those in
`CHARGES` the charge that a refund names. A new invariant is a function in one of the three lists.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import fields

from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.values import (
    Account,
    Charge,
    Facts,
    Kind,
    Status,
    Transaction,
    sequence_of,
)

_ACCOUNT_FIELDS = tuple(one.name for one in fields(Account))

Succession = Callable[[Account, Transaction], str | None]
"""Takes the account before a transaction and the transaction. Returns a violation, or None."""

Reference = Callable[[Facts, Transaction], str | None]
"""Takes what a transaction refers to and the transaction. Returns a violation, or None."""


def _histories_are_of_one_user(account: Account, transaction: Transaction) -> str | None:
    if transaction.user_id != account.user_id:
        return f"it is a transaction of user '{transaction.user_id}'"
    return None


def _sequences_have_no_gap(account: Account, transaction: Transaction) -> str | None:
    if transaction.sequence != account.transaction_count + 1:
        return f"its sequence should be {account.transaction_count + 1}"
    return None


def _balances_follow_from_each_other(account: Account, transaction: Transaction) -> str | None:
    if transaction.balance_before != account.balance:
        return f"the balance before it is {account.balance}, not {transaction.balance_before}"
    return None


def _times_never_run_backwards(account: Account, transaction: Transaction) -> str | None:
    if transaction.create_time_us < account.update_time_us:
        return "it is older than the one before it"
    return None


def _decision_times_are_recorded_only_where_they_differ(
    _: Account, transaction: Transaction
) -> str | None:
    if transaction.decision_time_us == transaction.create_time_us:
        return "its decision time equals its creation time and should not be recorded"
    return None


def _a_history_has_one_salt(account: Account, transaction: Transaction) -> str | None:
    if transaction.salt and account.transaction_count:
        return "it has a salt, and only the first transaction may have one"
    return None


def _kinds_have_their_effect(_: Account, transaction: Transaction) -> str | None:
    """Accepts kinds that only a newer version knows."""
    amount, cost = transaction.amount, transaction.cost
    match transaction.kind, transaction.status:
        case Kind.CONSUME, Status.SUCCESS:
            holds = amount == -cost and cost >= 0
        case Kind.CONSUME, Status.DENIED:
            holds = amount == 0 and cost > transaction.balance_before
        case ((Kind.REFUND | Kind.TOP_UP), Status.SUCCESS):
            holds = amount > 0
        case Kind.ADJUSTMENT, Status.SUCCESS:
            holds = True
        case kind, status:
            holds = not (kind.is_known and status.is_known)
    if holds:
        return None
    return (
        f"a {transaction.kind.name} with status {transaction.status.name} and a cost of {cost}"
        f" cannot change the balance by {amount}"
    )


def _keys_are_bound_once(facts: Facts, transaction: Transaction) -> str | None:
    if transaction.binds_key and facts.bound is not None:
        return (
            f"its key '{transaction.idempotency_key}' is already bound to transaction"
            f" {facts.bound.sequence}"
        )
    return None


def _refunds_name_charges(facts: Facts, transaction: Transaction) -> str | None:
    refunded, charge = transaction.refunded_transaction_id, facts.charge
    if bool(refunded) != (transaction.kind is Kind.REFUND):
        return "a refund must name a charge, and nothing else may"
    if not refunded:
        return None
    if charge is None or not charge.took_tokens:
        return f"'{refunded}' is not a charge of that user"
    if not 0 < transaction.amount <= charge.remaining:
        return f"only {charge.remaining} tokens remain of the charge it refunds"
    return None


SUCCESSION: tuple[Succession, ...] = (
    _histories_are_of_one_user,
    _sequences_have_no_gap,
    _balances_follow_from_each_other,
    _times_never_run_backwards,
    _decision_times_are_recorded_only_where_they_differ,
    _a_history_has_one_salt,
    _kinds_have_their_effect,
)
"""Invariants of a transaction and the account before it."""

KEYS: tuple[Reference, ...] = (_keys_are_bound_once,)
"""Invariants of a transaction and the one that its key is bound to."""

CHARGES: tuple[Reference, ...] = (_refunds_name_charges,)
"""Invariants of a transaction and the charge that it refunds."""


def violations(account: Account, facts: Facts, transaction: Transaction) -> Iterator[str]:
    """Check the next transaction of a history. Yields each violation, as the end of a sentence.

    Args:
        account: The account before the transaction.
        facts: The transaction that its key is bound to, and the charge that it refunds.
        transaction: The next transaction.
    """
    for succession in SUCCESSION:
        if problem := succession(account, transaction):
            yield problem
    yield from _violated((*KEYS, *CHARGES), facts, transaction)


def _violated(
    references: Iterable[Reference], facts: Facts, transaction: Transaction
) -> Iterator[str]:
    for reference in references:
        if problem := reference(facts, transaction):
            yield problem


@dataclass(slots=True)
class History:
    """Checks the history of one account while it is read, oldest transaction first.

    Keys and charges must be remembered until the end of the history. To bound that memory, a long
    history can be read several times, each time for another `part` of the keys and charges.

    Attributes:
        account: The account when the reading began. Later transactions are not checked.
        part: Which part of the keys and charges to check: 0 to parts - 1. Part 0 also checks
            the succession of transactions.
        parts: Number of parts, at least 1.
        so_far: The account that the transactions so far lead to; only in part 0.
    """

    account: Account
    part: int = 0
    parts: int = 1
    so_far: Account = field(init=False)
    _keys: dict[str, Transaction] = field(init=False, default_factory=dict)
    _charges: dict[int, Charge] = field(init=False, default_factory=dict)
    _has_unknown: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.so_far = Account(self.account.user_id)

    def add(self, transaction: Transaction, stored: bytes) -> Iterator[str]:
        """Check the next transaction. Yields each violation, as the end of a sentence.

        Args:
            transaction: The next transaction.
            stored: The same transaction as it is stored.
        """
        if self.part == 0:
            for succession in SUCCESSION:
                if problem := succession(self.so_far, transaction):
                    yield problem
            self.so_far = account_after(self.so_far, transaction, stored)
            self._has_unknown |= bool(transaction.carried) or not transaction.kind.is_known
        yield from self._references(transaction)

    def finish(self) -> Iterator[str]:
        """Check the account after its newest transaction was added."""
        if self.part:
            return
        found, account = self.so_far, self.account
        if found.transaction_count < account.transaction_count:
            yield f"transactions after {found.transaction_count} are missing"
        for name in _ACCOUNT_FIELDS:
            stored, right = getattr(account, name), getattr(found, name)
            if name == "head" and stored != right:
                yield (
                    "its head is not the one that its transactions lead to: a transaction was changed,"
                    " dropped, inserted or moved"
                )
            elif name not in ("head", *self._unknowable) and stored != right:
                yield f"its {name} is {stored!r} but its transactions add up to {right!r}"

    @property
    def _unknowable(self) -> tuple[str, ...]:
        """Fields of the account that this version cannot derive."""
        return ("carried", "due_us") if self._has_unknown else ("carried",)

    def _references(self, transaction: Transaction) -> Iterator[str]:
        """Check and remember the key and charge, if they are in this part."""
        key, sequence = transaction.idempotency_key, transaction.sequence
        refunded = sequence_of(transaction.refunded_transaction_id)
        if transaction.binds_key and hash(key) % self.parts == self.part:
            yield from _violated(KEYS, Facts(bound=self._keys.get(key)), transaction)
            self._keys.setdefault(key, transaction)
        if (refunded or 0) % self.parts == self.part:
            charge = self._charges.get(refunded or 0)
            if charge and charge.transaction.transaction_id != transaction.refunded_transaction_id:
                charge = None
            yield from _violated(CHARGES, Facts(charge=charge), transaction)
            if charge is not None and refunded is not None:
                total = charge.refunded + transaction.amount
                self._charges[refunded] = Charge(charge.transaction, total, transaction)
        if transaction.kind is Kind.CONSUME and sequence % self.parts == self.part:
            self._charges[sequence] = Charge(transaction)
