"""The answers of the service, as small frozen values instead of protobuf messages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from entitlements.v1 import entitlement_service_pb2 as rpc
from entitlements.v1 import resources_pb2 as pb


class FeatureTier(StrEnum):
    """The five features that the service ships with.

    Any other string works as a feature, too: an operator may replace the catalogue.
    """

    HEADLINE_PICK = "headline_pick"
    FULL_DISTRIBUTION = "full_distribution"
    SCENARIO_EXTREMES = "scenario_extremes"
    COMPARATIVE_ANALYSIS = "comparative_analysis"
    DEEP_DIVE_EDUCATIONAL = "deep_dive_educational"


class TransactionKind(StrEnum):
    """What a transaction did."""

    CONSUME = "CONSUME"
    REFUND = "REFUND"
    TOP_UP = "TOP_UP"
    ADJUSTMENT = "ADJUSTMENT"
    EXPIRE = "EXPIRE"
    UNKNOWN = "UNKNOWN"
    """A kind that this version of the client does not know. Not valid as a filter."""


class TransactionStatus(StrEnum):
    """How a transaction ended."""

    SUCCESS = "SUCCESS"
    DENIED = "DENIED"
    UNKNOWN = "UNKNOWN"
    """A status that this version of the client does not know. Not valid as a filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Whether a user could be charged for a feature at the time of reading. It reserves nothing.

    Attributes:
        feature: The feature of the request.
        allowed: True exactly if `available` is at least `required`.
        required: Cost of one use, in tokens. 0 if the user has access to the event already.
        available: Tokens that the user can spend now.
        access_until: The user has access to the event until then, UTC, and needs no tokens. None: the
            next use would be charged.
    """

    feature: str
    allowed: bool
    required: int
    available: int
    access_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Tokens of one user that expire together.

    Attributes:
        grant_id: The transaction that opened it.
        amount: Tokens that are left.
        expire_time: When they expire, UTC. From then on they cannot be spent.
    """

    grant_id: str
    amount: int
    expire_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Tokens that a transaction took from one place, or put there.

    Attributes:
        grant: Id of the grant. Empty: tokens that never expire.
        amount: How many tokens.
        expire_time: When these tokens expire, UTC. None: never.
    """

    grant: str
    amount: int
    expire_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The tokens of one user. An account without transactions has balance 0 and no times.

    Attributes:
        user_id: The user.
        balance: Tokens that are recorded. Expired ones are in it until that is recorded.
        available: Tokens that can be spent now: 0 to `balance`.
        transaction_count: Number of transactions, including denied ones.
        create_time: When the first transaction was recorded, UTC.
        update_time: When the newest transaction was recorded, UTC.
        grants: The available tokens that expire, soonest first. The others never do.
        next_expire_time: When tokens expire next, UTC. None: never.
        next_expire_amount: How many tokens expire then. 0: none ever.
    """

    user_id: str
    balance: int
    available: int
    transaction_count: int
    create_time: datetime | None
    update_time: datetime | None
    grants: tuple[Grant, ...] = ()
    next_expire_time: datetime | None = None
    next_expire_amount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One line of a user's history. It is written once and never changes.

    Attributes:
        transaction_id: Made by the service; opaque.
        user_id: The user whose account it belongs to.
        sequence: Number in the user's history: 1, 2, 3 and so on, without gaps.
        kind: What was done.
        status: How it ended.
        feature: Only for CONSUME; otherwise empty.
        cost: Total price at the time, for all of `quantity`, in tokens. Only for CONSUME; otherwise 0.
        amount: Change of the balance, in tokens: negative for a charge or an expiry, positive for a
            refund or top-up, 0 if denied or free.
        balance_before: In tokens.
        balance_after: In tokens.
        create_time: When it was recorded, UTC, by the clock of the service. Never before the transaction before it.
        decision_time: When it was decided, UTC, if that differs from `create_time`: a clock was set back. Otherwise None.
        event_id: The analysed event. Only for CONSUME; may be empty.
        idempotency_key: The key that was sent, or empty.
        reason: Why, as the caller put it. Not for CONSUME; may be empty.
        refunded_transaction_id: The charge that was refunded. Only for REFUND.
        caller: Authenticated name of the caller, or empty.
        catalogue_version: Version of the catalogue at the time.
        quantity: How many uses were asked for. Only for CONSUME; otherwise 0.
        draws: Which tokens were taken or, by a REFUND or TOP_UP, where they were put. Their amounts add
            up to `amount`, without its sign. Empty: only tokens that never expire, or none.
        expire_time: When the tokens expire, UTC, as it was asked for. Only for TOP_UP.
        lifetime: How long the tokens last, as it was asked for. Only for TOP_UP.
        access_until: End of the access window that the charge opened, UTC: until then the same feature
            and event are covered. None: it opened none.
        available: Tokens that could be spent then. Only if DENIED; otherwise None.
        labels: As the caller put them.
        replayed: True if an earlier, equal request with the same key made this transaction, and
            this one recorded nothing. This and what follows belong to the response and not to the
            transaction: they are False or 0 in a history, and not compared.
        covered: True if an access window covers the request: this is the charge that opened it.
            Nothing was charged or recorded.
        refunded: Tokens of this charge that were given back so far. More than 0 only if `replayed` or
            `covered`.
    """

    transaction_id: str
    user_id: str
    sequence: int
    kind: TransactionKind
    status: TransactionStatus
    feature: str
    cost: int
    amount: int
    balance_before: int
    balance_after: int
    create_time: datetime
    decision_time: datetime | None
    event_id: str
    idempotency_key: str
    reason: str
    refunded_transaction_id: str
    caller: str
    catalogue_version: str
    quantity: int = 0
    draws: tuple[Draw, ...] = ()
    expire_time: datetime | None = None
    lifetime: timedelta | None = None
    access_until: datetime | None = None
    available: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    replayed: bool = field(default=False, compare=False)
    covered: bool = field(default=False, compare=False)
    refunded: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One line of the catalogue.

    Attributes:
        feature_id: Id of the feature.
        cost: Price of one use, in tokens. 0: always open to everyone.
        title: Short name for people.
        description: What the analysis contains.
        use_case: What the analysis is useful for.
        access: How long one charge gives access to an event. None: every use is charged.
    """

    feature_id: str
    cost: int
    title: str
    description: str
    use_case: str
    access: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConsumeRequest:
    """One charge of a `batch_consume`.

    Attributes:
        user_id: The user to charge.
        feature: The feature to charge for.
        event_id: The analysed event. Empty: the charge opens no access window.
        idempotency_key: Your key, so that you can retry. None: a new key for this call.
        quantity: How many uses to charge for, 1 to 10^6.
        max_cost: Highest total cost to accept, in tokens. None: any price.
        labels: Labels to store with the charge, at most 8.
    """

    user_id: str
    feature: str
    event_id: str = ""
    idempotency_key: str | None = None
    quantity: int = 1
    max_cost: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


_Word = TypeVar("_Word", TransactionKind, TransactionStatus)


def _word(words: type[_Word], name: Callable[[int], str], prefix: str, number: int) -> _Word:
    # A newer service may have values that this client does not know. The history stays readable.
    try:
        return words(name(number).removeprefix(prefix))
    except ValueError:
        return words("UNKNOWN")


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _optional_time(message: Message, name: str) -> datetime | None:
    return _time(getattr(message, name)) if message.HasField(name) else None


def _optional_period(message: Message, name: str) -> timedelta | None:
    if not message.HasField(name):
        return None
    period: timedelta = getattr(message, name).ToTimedelta()
    return period


def access(message: pb.Access) -> Access:
    """Translate the message."""
    return Access(
        feature=message.feature,
        allowed=message.allowed,
        required=message.required,
        available=message.available,
        access_until=_optional_time(message, "access_until"),
    )


def account(message: pb.Account) -> Account:
    """Translate the message."""
    return Account(
        user_id=message.user_id,
        balance=message.balance,
        available=message.available,
        transaction_count=message.transaction_count,
        create_time=_optional_time(message, "create_time"),
        update_time=_optional_time(message, "update_time"),
        grants=tuple(
            Grant(grant_id=one.grant_id, amount=one.amount, expire_time=_time(one.expire_time))
            for one in message.grants
        ),
        next_expire_time=_optional_time(message, "next_expire_time"),
        next_expire_amount=message.next_expire_amount,
    )


def transaction(
    message: pb.Transaction, *, replayed: bool = False, covered: bool = False, refunded: int = 0
) -> Transaction:
    """Translate the message, with what its response says of it."""
    return Transaction(
        transaction_id=message.transaction_id,
        user_id=message.user_id,
        sequence=message.sequence,
        kind=_word(TransactionKind, pb.TransactionKind.Name, "TRANSACTION_KIND_", message.kind),
        status=_word(
            TransactionStatus, pb.TransactionStatus.Name, "TRANSACTION_STATUS_", message.status
        ),
        feature=message.feature,
        cost=message.cost,
        amount=message.amount,
        balance_before=message.balance_before,
        balance_after=message.balance_after,
        create_time=_time(message.create_time),
        decision_time=_optional_time(message, "decision_time"),
        event_id=message.event_id,
        idempotency_key=message.idempotency_key,
        reason=message.reason,
        refunded_transaction_id=message.refunded_transaction_id,
        caller=message.caller,
        catalogue_version=message.catalogue_version,
        quantity=message.quantity,
        draws=tuple(
            Draw(
                grant=one.grant,
                amount=one.amount,
                expire_time=_optional_time(one, "expire_time"),
            )
            for one in message.draws
        ),
        expire_time=_optional_time(message, "expire_time"),
        lifetime=_optional_period(message, "lifetime"),
        access_until=_optional_time(message, "access_until"),
        available=message.available if message.HasField("available") else None,
        labels=dict(sorted(message.labels.items())),
        replayed=replayed,
        covered=covered,
        refunded=refunded,
    )


def charged(message: rpc.ConsumeResponse) -> Transaction:
    """Translate the answer to a charge."""
    return transaction(
        message.transaction,
        replayed=message.replayed,
        covered=message.covered,
        refunded=message.refunded,
    )


def written(
    message: rpc.RefundResponse | rpc.TopUpResponse | rpc.SetBalanceResponse,
) -> Transaction:
    """Translate the answer to another write."""
    return transaction(message.transaction, replayed=message.replayed)


def feature(message: pb.Feature) -> Feature:
    """Translate the message."""
    return Feature(
        feature_id=message.feature_id,
        cost=message.cost,
        title=message.title,
        description=message.description,
        use_case=message.use_case,
        access=_optional_period(message, "access"),
    )
