"""What must be true of every history: one list, used by append, copy, verify and the tests.

An invariant compares a transaction with what came before it and describes any contradiction. Those
in `SUCCESSION` need the account, those in `KEYS` the transaction that a key is bound to, those in `WINDOWS`
the charge that opened an access window, and those in `CHARGES` the charge that a refund names. A new
invariant is a function in one of these lists.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import fields

from entitlements_server.ledger import windows
from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.grants import POOL, grants_after, last_part, tokens
from entitlements_server.ledger.values import (
    Account,
    Charge,
    Draw,
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
            holds = amount == 0 and cost > transaction.available
        case ((Kind.REFUND | Kind.TOP_UP), Status.SUCCESS):
            holds = amount > 0
        case Kind.EXPIRE, Status.SUCCESS:
            holds = amount < 0 and not cost and not transaction.idempotency_key
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


def _only_denials_say_what_was_unavailable(_: Account, transaction: Transaction) -> str | None:
    if not transaction.unavailable:
        return None
    if transaction.status is not Status.DENIED and transaction.status.is_known:
        return "only a denied charge may say what was unavailable"
    if not 0 < transaction.unavailable <= transaction.balance_before:
        return f"{transaction.unavailable} of {transaction.balance_before} tokens were unavailable"
    return None


def _quantities_divide_the_cost(_: Account, transaction: Transaction) -> str | None:
    if not transaction.quantity or not transaction.kind.is_known:
        return None
    if transaction.kind is not Kind.CONSUME:
        return "it has a quantity, and only a charge may have one"
    if transaction.quantity <= 1 or transaction.cost % transaction.quantity:
        return f"a cost of {transaction.cost} is none of {transaction.quantity} uses"
    return None


def _draws_add_up(_: Account, transaction: Transaction) -> str | None:
    draws = transaction.draws
    if not draws:
        return None
    if any(one.amount < 1 or (not one.grant) != (not one.expire_time_us) for one in draws):
        return "one of its draws is malformed"
    if len({one.grant for one in draws}) < len(draws):
        return "two of its draws are about the same grant"
    if transaction.kind.is_known and tokens(draws) != abs(transaction.amount):
        return f"its draws add up to {tokens(draws)} and it moves {abs(transaction.amount)}"
    return None


def _draws_are_of_grants_that_have_the_tokens(
    account: Account, transaction: Transaction
) -> str | None:
    """Also holds for transactions without draws: those move tokens of the pool."""
    if not transaction.kind.is_known:
        return None
    takes = transaction.amount < 0
    there = {one.grant: one for one in account.grants}
    for draw in transaction.draws:
        grant = there.get(draw.grant)
        if grant is not None and grant.expire_time_us != draw.expire_time_us:
            return f"grant '{draw.grant}' expires at another time than its draw says"
        if takes and draw.grant and (grant is None or grant.amount < draw.amount):
            return f"grant '{draw.grant}' does not have the {draw.amount} tokens that it takes"
    after = account.grants
    if transaction.draws:
        after = grants_after(after, transaction.draws, -1 if takes else 1)
    if after and tokens(after) > transaction.balance_after:
        return "it takes more tokens that never expire than there are"
    return None


def _no_token_is_spent_after_it_has_expired(_: Account, transaction: Transaction) -> str | None:
    if transaction.kind is Kind.EXPIRE:
        if not transaction.draws or any(map(_is_pool, transaction.draws)):
            return "it does not say which grants have expired"
        if any(one.expire_time_us > transaction.decided_us for one in transaction.draws):
            return "it expires a grant before its time"
        return None
    if transaction.kind.is_known and any(
        one.expire_time_us <= transaction.decided_us
        for one in transaction.draws
        if not _is_pool(one)
    ):
        return "it moves tokens of a grant that has expired"
    return None


def _is_pool(draw: Draw) -> bool:
    return draw.grant == POOL


def _expiries_are_those_asked_for(_: Account, transaction: Transaction) -> str | None:
    time_us, lifetime_us = transaction.expire_time_us, transaction.lifetime_us
    if not transaction.kind.is_known:
        return None
    if transaction.kind is not Kind.TOP_UP:
        return "only a top-up may have an expiry" if time_us or lifetime_us else None
    if time_us and lifetime_us:
        return "it has two expiries"
    expected = time_us or (transaction.decided_us + lifetime_us if lifetime_us else 0)
    found = [one.expire_time_us for one in transaction.draws]
    if found != ([expected] if expected else []):
        return "its tokens expire at another time than was asked for"
    return None


def _windows_are_opened_by_charges(_: Account, transaction: Transaction) -> str | None:
    if not transaction.access_until_us or not transaction.kind.is_known:
        return None
    if (
        transaction.kind is not Kind.CONSUME
        or transaction.status is not Status.SUCCESS
        or not transaction.cost
        or not transaction.event_id
        or transaction.quantity
        or transaction.access_until_us <= transaction.decided_us
    ):
        return "it opens an access window, which only a charge of one use of an event may"
    return None


def _windows_are_opened_once(facts: Facts, transaction: Transaction) -> str | None:
    if (
        transaction.access_until_us
        and facts.window is not None
        and windows.is_open(facts.window, transaction.decided_us)
    ):
        return f"its access window was open since transaction {facts.window.transaction.sequence}"
    return None


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


def _tokens_that_never_expire_come_back_as_such(
    facts: Facts, transaction: Transaction
) -> str | None:
    charge = facts.charge
    if transaction.kind is not Kind.REFUND or charge is None:
        return None
    drawn = charge.transaction.draws
    if not drawn:
        return "it puts tokens of the pool into a grant" if transaction.draws else None
    parts = list(last_part(drawn, charge.refunded, transaction.amount))
    expected = tokens(tuple(filter(_is_pool, parts)))
    back = transaction.amount - tokens(tuple(one for one in transaction.draws if not _is_pool(one)))
    if back < expected:
        return f"{expected} tokens came from the pool and {back} come back to it"
    return None


SUCCESSION: tuple[Succession, ...] = (
    _histories_are_of_one_user,
    _sequences_have_no_gap,
    _balances_follow_from_each_other,
    _times_never_run_backwards,
    _decision_times_are_recorded_only_where_they_differ,
    _a_history_has_one_salt,
    _kinds_have_their_effect,
    _only_denials_say_what_was_unavailable,
    _quantities_divide_the_cost,
    _draws_add_up,
    _draws_are_of_grants_that_have_the_tokens,
    _no_token_is_spent_after_it_has_expired,
    _expiries_are_those_asked_for,
    _windows_are_opened_by_charges,
)
"""Invariants of a transaction and the account before it."""

KEYS: tuple[Reference, ...] = (_keys_are_bound_once,)
"""Invariants of a transaction and the one that its key is bound to."""

WINDOWS: tuple[Reference, ...] = (_windows_are_opened_once,)
"""Invariants of a transaction and the one that opened its access window before."""

CHARGES: tuple[Reference, ...] = (
    _refunds_name_charges,
    _tokens_that_never_expire_come_back_as_such,
)
"""Invariants of a transaction and the charge that it refunds."""


def violations(account: Account, facts: Facts, transaction: Transaction) -> Iterator[str]:
    """Check the next transaction of a history. Yields each violation, as the end of a sentence.

    Args:
        account: The account before the transaction.
        facts: The transaction that its key is bound to, the charge that it refunds, and the one that
            opened its access window before.
        transaction: The next transaction.
    """
    for succession in SUCCESSION:
        if problem := succession(account, transaction):
            yield problem
    yield from _violated((*KEYS, *WINDOWS, *CHARGES), facts, transaction)


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
    _windows: dict[str, Charge] = field(init=False, default_factory=dict)
    _opened: dict[int, str] = field(init=False, default_factory=dict)
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
        if not self._has_unknown:
            return ("carried",)
        return ("carried", "due_us", "grants", "access_until_us", "churn_minute", "churn")

    def _references(self, transaction: Transaction) -> Iterator[str]:
        """Check and remember the key, window and charge, if they are in this part."""
        key, sequence = transaction.idempotency_key, transaction.sequence
        refunded = sequence_of(transaction.refunded_transaction_id)
        if transaction.binds_key and hash(key) % self.parts == self.part:
            yield from _violated(KEYS, Facts(bound=self._keys.get(key)), transaction)
            self._keys.setdefault(key, transaction)
        yield from self._window(transaction, refunded or 0)
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

    def _window(self, transaction: Transaction, refunded: int) -> Iterator[str]:
        """Check and remember the access window that a transaction opens or takes tokens back from."""
        window = transaction.window
        if window and hash(window) % self.parts == self.part:
            yield from _violated(WINDOWS, Facts(window=self._windows.get(window)), transaction)
            self._windows[window] = Charge(transaction)
            self._opened[transaction.sequence] = window
        elif opened := self._opened.get(refunded):
            before = self._windows[opened]
            if before.transaction.sequence == refunded:
                total = before.refunded + transaction.amount
                self._windows[opened] = Charge(before.transaction, total)
