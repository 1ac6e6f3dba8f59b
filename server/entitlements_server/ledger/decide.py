"""The rules. One pure function decides every write, for every store.

The order is always the same: the idempotency key, then whether the feature or charge exists, then
the balance. Checking the key before the balance makes retries safe: the retry of a successful charge
must succeed even at a balance of zero.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from msgspec import Struct

from entitlements_server.ledger.catalogue import Catalogue, access
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.errors import (
    BalanceLimitExceededError,
    IdempotencyKeyReusedError,
    InsufficientTokensError,
    LedgerError,
    NotRefundableError,
    RefundExceedsChargeError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.limits import MAX_BALANCE
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.values import Account, Charge, Facts, Kind, Status, Transaction

# Looked up only once: see values.py.
_CONSUME = Kind.CONSUME
_SUCCESS, _DENIED = Status.SUCCESS, Status.DENIED

MAX_RECORDED = 3
"""Most transactions that one decision records: an expiry, a lapse, and its own."""


class Recorded(Struct, frozen=True, gc=False):
    """A new transaction to be made durable. It may be a denied one.

    Attributes:
        transaction: The command's own transaction, which is the answer.
        settlements: What has lapsed by then; recorded before it, in order.
    """

    transaction: Transaction
    settlements: tuple[Transaction, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.settlements) < MAX_RECORDED

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """Everything that is recorded, in order."""
        return (*self.settlements, self.transaction) if self.settlements else (self.transaction,)


class Replayed(Struct, frozen=True, gc=False):
    """The transaction of an earlier, identical request. Nothing new is recorded."""

    transaction: Transaction
    transactions: ClassVar[tuple[Transaction, ...]] = ()


class Rejected(Struct, frozen=True):
    """The rules reject the request. Nothing is recorded."""

    error: LedgerError
    transactions: ClassVar[tuple[Transaction, ...]] = ()


Outcome = Recorded | Replayed | Rejected
"""The result of a decision."""

Rule = Callable[[Account, Facts, Command], Outcome]
"""`decide` with its terms bound: all that a store needs to know about the rules."""


def new_salt() -> str:
    """Return a salt for the chain of a new account: 128 random bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a decision depends on besides the ledger's contents.

    Attributes:
        catalogue: The current prices.
        now_us: The time, microseconds since 1970 UTC. If the clock was set back, the account's
            newest time is recorded instead, so that history never runs backwards, and this time
            is recorded as the decision's own.
        new_salt: Makes the salt of a new account.
    """

    catalogue: Catalogue
    now_us: int
    new_salt: Callable[[], str] = new_salt


def bind(catalogue: Catalogue, now_us: int) -> Rule:
    """Return the rules with their terms bound, for one group.

    Args:
        catalogue: The current prices.
        now_us: The time, microseconds since 1970 UTC.
    """
    terms = Terms(catalogue, now_us)
    return lambda account, facts, command: decide(account, facts, command, terms)


def decide(account: Account, facts: Facts, command: Command, terms: Terms) -> Outcome:
    """Decide one write.

    Args:
        account: The account of `command.user_id`, as it is stored.
        facts: The transaction that the command's key is bound to, and the charge to be refunded.
        command: What to decide.
        terms: Prices and time.

    Returns:
        What to record or to answer. Never raises.
    """
    if facts.bound is not None:
        return _replay(facts.bound, facts.charge, command)
    account = settled(account, terms.now_us)
    try:
        match command:
            case Consume():
                transaction = _consume(account, command, terms)
            case Refund():
                refund = _refund(account, facts.charge, command, terms)
                if isinstance(refund, Replayed):
                    return refund
                transaction = refund
            case TopUp():
                transaction = _record(account, Kind.TOP_UP, command, terms, amount=command.amount)
            case SetBalance():
                change = command.balance - account.balance
                transaction = _record(account, Kind.ADJUSTMENT, command, terms, amount=change)
    except LedgerError as error:
        return Rejected(error)
    return Recorded(transaction)


def denial(transaction: Transaction) -> InsufficientTokensError | None:
    """Return the error to answer a denied transaction with; None for any other.

    A denial is an error so that a caller who ignores the response gives nothing away.
    """
    if transaction.status is not _DENIED:
        return None
    return InsufficientTokensError(
        user_id=transaction.user_id,
        feature=transaction.feature,
        required=transaction.cost,
        available=transaction.balance_before,
        transaction_id=transaction.transaction_id,
    )


def _consume(account: Account, command: Consume, terms: Terms) -> Transaction:
    feature = terms.catalogue.feature(command.feature)
    allowed = access(account, feature).allowed
    return _record(
        account,
        _CONSUME,
        command,
        terms,
        amount=-feature.cost if allowed else 0,
        status=_SUCCESS if allowed else _DENIED,
        cost=feature.cost,
    )


def _refund(
    account: Account, charge: Charge | None, command: Refund, terms: Terms
) -> Transaction | Replayed:
    if charge is None:
        raise TransactionNotFoundError(command.user_id, command.transaction_id)
    if not charge.took_tokens:
        raise NotRefundableError(command.transaction_id)
    if charge.last_refund is not None and not charge.remaining:
        # Everything was given back: asking for all of it again changes nothing.
        if command.amount in (0, charge.transaction.cost):
            return Replayed(charge.last_refund)
        raise _exceeds(charge, command.amount)
    if command.amount > charge.remaining:
        raise _exceeds(charge, command.amount)
    amount = command.amount or charge.remaining
    return _record(account, Kind.REFUND, command, terms, amount=amount)


def _exceeds(charge: Charge, amount: int) -> RefundExceedsChargeError:
    return RefundExceedsChargeError(
        transaction_id=charge.transaction.transaction_id, amount=amount, remaining=charge.remaining
    )


def _record(
    account: Account,
    kind: Kind,
    command: Command,
    terms: Terms,
    *,
    amount: int,
    status: Status = Status.SUCCESS,
    cost: int = 0,
) -> Transaction:
    balance = account.balance + amount
    if balance > MAX_BALANCE:
        raise BalanceLimitExceededError(balance=account.balance, amount=amount, limit=MAX_BALANCE)
    consume = command if isinstance(command, Consume) else None
    time_us = max(terms.now_us, account.update_time_us)
    # Python is slow at passing more than 15 arguments by name.
    return Transaction(
        account.transaction_count + 1,
        kind,
        status,
        consume.feature if consume else "",
        cost,
        amount,
        balance,
        time_us,
        event_id=consume.event_id if consume else "",
        refunded_transaction_id=command.transaction_id if isinstance(command, Refund) else "",
        catalogue_version=terms.catalogue.version,
        decision_time_us=terms.now_us if terms.now_us != time_us else 0,
        user_id=account.user_id,
        idempotency_key=command.idempotency_key,
        reason="" if isinstance(command, Consume) else command.reason,
        caller=command.caller,
        salt="" if account.transaction_count else terms.new_salt(),
    )


def _replay(bound: Transaction, charge: Charge | None, command: Command) -> Outcome:
    field = _difference(bound, charge, command)
    if field is None:
        return Replayed(bound)
    return Rejected(
        IdempotencyKeyReusedError(
            idempotency_key=command.idempotency_key,
            field=field,
            transaction_id=bound.transaction_id,
        )
    )


def _difference(bound: Transaction, charge: Charge | None, command: Command) -> str | None:
    """Name the first field in which `command` differs from the request that made `bound`."""
    compared: tuple[tuple[str, object, object], ...]
    match command:
        case Consume():
            compared = (
                ("kind", bound.kind, Kind.CONSUME),
                ("feature", bound.feature, command.feature),
                ("event_id", bound.event_id, command.event_id),
            )
        case Refund():
            compared = (
                ("kind", bound.kind, Kind.REFUND),
                ("transaction_id", bound.refunded_transaction_id, command.transaction_id),
                ("amount", bound.amount, command.amount or _all_that_remained(bound, charge)),
                ("reason", bound.reason, command.reason),
            )
        case TopUp():
            compared = (
                ("kind", bound.kind, Kind.TOP_UP),
                ("amount", bound.amount, command.amount),
                ("reason", bound.reason, command.reason),
            )
        case SetBalance():
            compared = (
                ("kind", bound.kind, Kind.ADJUSTMENT),
                ("balance", bound.balance_after, command.balance),
                ("reason", bound.reason, command.reason),
            )
    return next((field for field, then, now in compared if then != now), None)


def _all_that_remained(bound: Transaction, charge: Charge | None) -> int:
    """Return the amount of a refund of all that remained, if `bound` may have been one; else 0.

    Only the refund that completed the charge may have been one: it is the newest, and nothing
    remains after it.
    """
    completed = charge is not None and not charge.remaining and charge.last_refund == bound
    return bound.amount if completed else 0
