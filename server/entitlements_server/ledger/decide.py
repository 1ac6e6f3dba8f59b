"""The rules. One pure function decides every write, for every store.

The order is always the same: the idempotency key, the access window, whether the feature or charge
exists, the price guard, the tokens. Checking the key before the tokens makes retries safe: the retry of a
successful charge must succeed even at a balance of zero. What has lapsed is recorded in front of what a
command records, and by no command that records nothing.
"""

from collections.abc import Callable

from msgspec.structs import replace

from entitlements_server.ledger import grants, windows
from entitlements_server.ledger.catalogue import Access, Catalogue, access
from entitlements_server.ledger.commands import (
    Command,
    Consume,
    Refund,
    SetBalance,
    Settle,
    TopUp,
)
from entitlements_server.ledger.errors import (
    BalanceLimitExceededError,
    InsufficientTokensError,
    InvalidFieldError,
    LedgerError,
    NotRefundableError,
    PriceChangedError,
    RefundExceedsChargeError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.fold import minute_of
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.ledger.outcomes import (
    Outcome,
    Recorded,
    Rejected,
    Replayed,
    Unchanged,
)
from entitlements_server.ledger.replay import replay
from entitlements_server.ledger.settlement import expiry, settled
from entitlements_server.ledger.terms import DEFAULTS, Choices, Terms
from entitlements_server.ledger.values import (
    Account,
    Charge,
    Draws,
    Facts,
    Kind,
    Status,
    Transaction,
    transaction_id_of,
)

# Looked up only once: see values.py.
_CONSUME, _REFUND, _TOP_UP, _ADJUSTMENT = Kind.CONSUME, Kind.REFUND, Kind.TOP_UP, Kind.ADJUSTMENT
_SUCCESS, _DENIED = Status.SUCCESS, Status.DENIED

Rule = Callable[[Account, Facts, Command], Outcome]
"""`decide` with its terms bound: all that a store needs to know about the rules."""


def bind(catalogue: Catalogue, now_us: int, choices: Choices = DEFAULTS) -> Rule:
    """Return the rules with their terms bound, for one group.

    Args:
        catalogue: The current prices.
        now_us: The time, microseconds since 1970 UTC.
        choices: What the operator chooses.
    """
    terms = Terms(catalogue, now_us, choices)
    return lambda account, facts, command: decide(account, facts, command, terms)


def decide(account: Account, facts: Facts, command: Command, terms: Terms) -> Outcome:
    """Decide one write.

    Args:
        account: The account of `command.user_id`, as it is stored.
        facts: The transaction that the command's key is bound to, the charge that opened its access
            window, and the charge to be refunded.
        command: What to decide.
        terms: Prices and time.

    Returns:
        What to record or to answer. Never raises.
    """
    if facts.bound is not None:
        return replay(facts.bound, facts, command)
    if facts.window is not None and windows.is_open(facts.window, terms.now_us):
        return Replayed(facts.window.transaction, facts.window.refunded, covered=True)
    # SetBalance is about what can be spent, so what has lapsed is taken off first.
    expired = expiry(account, terms.now_us, at_once=isinstance(command, SetBalance))
    if expired is not None:
        account = _after_expiry(account, expired)
    try:
        own = _decided(account, facts, command, terms)
    except LedgerError as error:
        return Rejected(error)
    if isinstance(own, Replayed):
        return own
    if own is None:
        return Unchanged() if expired is None else Recorded(expired)
    return Recorded(own) if expired is None else Recorded(own, (expired,))


def _decided(
    account: Account, facts: Facts, command: Command, terms: Terms
) -> Transaction | Replayed | None:
    """Return the command's own transaction, or the answer if it is an earlier one; None: it has none."""
    match command:
        case Consume():
            return _consume(account, command, terms)
        case Refund():
            return _refund(account, facts.charge, command, terms)
        case TopUp():
            return _top_up(account, command, terms)
        case SetBalance():
            return _set_balance(account, command, terms)
        case Settle():
            return None


def _after_expiry(account: Account, expired: Transaction) -> Account:
    """Return what a decision must know of the account after what has lapsed was recorded."""
    return replace(
        account,
        balance=expired.balance_after,
        transaction_count=expired.sequence,
        update_time_us=expired.create_time_us,
        grants=grants.grants_after(account.grants, expired.draws, -1),
    )


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
        available=transaction.available,
        transaction_id=transaction.transaction_id,
    )


def _consume(account: Account, command: Consume, terms: Terms) -> Transaction:
    feature = terms.catalogue.feature(command.feature)
    quantity = command.quantity
    if quantity != 1:
        if feature.access_us:
            raise InvalidFieldError(
                "quantity",
                f"must be 1 for the feature '{feature.feature_id}', which gives access for a time",
            )
        if feature.cost * quantity > MAX_AMOUNT:
            raise InvalidFieldError(
                "quantity", f"must be at most {MAX_AMOUNT // feature.cost} at the feature's price"
            )
    found = access(settled(account, terms.now_us), feature, quantity)
    cost = found.required
    if command.max_cost is not None and cost > command.max_cost:
        raise PriceChangedError(feature=feature.feature_id, max_cost=command.max_cost, cost=cost)
    if not found.allowed:
        _require_room_for_denial(account, command, terms, found)
        return _record(
            account,
            _CONSUME,
            command,
            terms,
            0,
            status=_DENIED,
            cost=cost,
            unavailable=account.balance - found.available,
        )
    return _record(
        account,
        _CONSUME,
        command,
        terms,
        -cost,
        cost=cost,
        draws=grants.taken(account, cost, terms.now_us) if account.grants else (),
        access_until_us=windows.end_of(feature, command, terms.now_us),
    )


def _require_room_for_denial(
    account: Account, command: Consume, terms: Terms, found: Access
) -> None:
    churn = account.churn if account.churn_minute == minute_of(terms.now_us) else 0
    if churn >= terms.choices.max_denials:
        raise InsufficientTokensError(
            user_id=command.user_id,
            feature=found.feature,
            required=found.required,
            available=found.available,
            transaction_id=None,
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
    draws: Draws = ()
    if charge.transaction.draws:
        draws = grants.returned(account, charge, amount, _next_id(account, terms), terms)
    return _record(account, _REFUND, command, terms, amount, draws=draws)


def _exceeds(charge: Charge, amount: int) -> RefundExceedsChargeError:
    return RefundExceedsChargeError(
        transaction_id=charge.transaction.transaction_id, amount=amount, remaining=charge.remaining
    )


def _top_up(account: Account, command: TopUp, terms: Terms) -> Transaction:
    expire_time_us, lifetime_us = command.expire_time_us or 0, command.lifetime_us or 0
    if expire_time_us and expire_time_us <= terms.now_us:
        raise InvalidFieldError("expire_time", "must be in the future")
    draws: Draws = ()
    if expire_time_us or lifetime_us:
        draws = grants.added(
            account,
            command.amount,
            expire_time_us or terms.now_us + lifetime_us,
            _next_id(account, terms),
            terms.now_us,
        )
    return _record(
        account,
        _TOP_UP,
        command,
        terms,
        command.amount,
        draws=draws,
        expire_time_us=expire_time_us,
        lifetime_us=lifetime_us,
    )


def _set_balance(account: Account, command: SetBalance, terms: Terms) -> Transaction:
    change = command.balance - account.balance
    draws: Draws = ()
    if change < 0 and account.grants:
        draws = grants.taken(account, -change, terms.now_us)
    return _record(account, _ADJUSTMENT, command, terms, change, draws=draws)


def _next_id(account: Account, terms: Terms) -> str:
    """Return the id of the transaction that is recorded next."""
    time_us = max(terms.now_us, account.update_time_us)
    return transaction_id_of(account.user_id, account.transaction_count + 1, time_us)


def _record(
    account: Account,
    kind: Kind,
    command: Command,
    terms: Terms,
    amount: int,
    *,
    status: Status = _SUCCESS,
    cost: int = 0,
    draws: Draws = (),
    expire_time_us: int = 0,
    lifetime_us: int = 0,
    access_until_us: int = 0,
    unavailable: int = 0,
) -> Transaction:
    balance = account.balance + amount
    if balance > MAX_BALANCE:
        raise BalanceLimitExceededError(balance=account.balance, amount=amount, limit=MAX_BALANCE)
    consume = command if isinstance(command, Consume) else None
    time_us = max(terms.now_us, account.update_time_us)
    # By position, for Python is slow at passing this many arguments by name.
    return Transaction(
        account.transaction_count + 1,
        kind,
        status,
        consume.feature if consume else "",
        cost,
        amount,
        balance,
        time_us,
        consume.event_id if consume else "",
        command.transaction_id if isinstance(command, Refund) else "",
        terms.catalogue.version,
        terms.now_us if terms.now_us != time_us else 0,
        consume.quantity if consume and consume.quantity != 1 else 0,
        draws,
        expire_time_us,
        lifetime_us,
        access_until_us,
        unavailable,
        account.user_id,
        command.idempotency_key,
        command.reason,
        command.caller,
        command.labels,
        "" if account.transaction_count else terms.new_salt(),
    )
