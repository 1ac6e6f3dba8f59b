"""The answers of the service, as small frozen values instead of protobuf messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

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
        required: Cost of the feature, in tokens.
        available: Balance of the user, in tokens.
    """

    feature: str
    allowed: bool
    required: int
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The tokens of one user. An account without transactions has balance 0 and no times.

    Attributes:
        user_id: The user.
        balance: Tokens that the user has.
        transaction_count: Number of transactions, including denied ones.
        create_time: When the first transaction was recorded, UTC.
        update_time: When the newest transaction was recorded, UTC.
    """

    user_id: str
    balance: int
    transaction_count: int
    create_time: datetime | None
    update_time: datetime | None


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
        cost: Price of the feature at the time, in tokens. Only for CONSUME; otherwise 0.
        amount: Change of the balance, in tokens: negative for a charge, positive for a refund
            or top-up, 0 if denied or free.
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
        replayed: True if an earlier, equal request with the same key made this transaction, and
            this one recorded nothing. It belongs to the response and not to the transaction:
            False in a history, and not compared.
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
    replayed: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One line of the catalogue.

    Attributes:
        feature_id: Id of the feature.
        cost: Price of one use, in tokens. 0: always open to everyone.
        title: Short name for people.
        description: What the analysis contains.
        use_case: What the analysis is useful for.
    """

    feature_id: str
    cost: int
    title: str
    description: str
    use_case: str


@dataclass(frozen=True, slots=True)
class ConsumeRequest:
    """One charge of a `batch_consume`.

    Attributes:
        user_id: The user to charge.
        feature: The feature to charge for.
        event_id: The analysed event, for the history.
        idempotency_key: Your key, so that you can retry. None: a new key for this call.
    """

    user_id: str
    feature: str
    event_id: str = ""
    idempotency_key: str | None = None


_Word = TypeVar("_Word", TransactionKind, TransactionStatus)


def _word(words: type[_Word], name: Callable[[int], str], prefix: str, number: int) -> _Word:
    # A newer service may have values that this client does not know. The history stays readable.
    try:
        return words(name(number).removeprefix(prefix))
    except ValueError:
        return words("UNKNOWN")


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def access(message: pb.Access) -> Access:
    """Translate the message."""
    return Access(
        feature=message.feature,
        allowed=message.allowed,
        required=message.required,
        available=message.available,
    )


def account(message: pb.Account) -> Account:
    """Translate the message."""
    return Account(
        user_id=message.user_id,
        balance=message.balance,
        transaction_count=message.transaction_count,
        create_time=_time(message.create_time) if message.HasField("create_time") else None,
        update_time=_time(message.update_time) if message.HasField("update_time") else None,
    )


def transaction(message: pb.Transaction, *, replayed: bool = False) -> Transaction:
    """Translate the message."""
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
        decision_time=_time(message.decision_time) if message.HasField("decision_time") else None,
        event_id=message.event_id,
        idempotency_key=message.idempotency_key,
        reason=message.reason,
        refunded_transaction_id=message.refunded_transaction_id,
        caller=message.caller,
        catalogue_version=message.catalogue_version,
        replayed=replayed,
    )


def written(
    message: rpc.ConsumeResponse | rpc.RefundResponse | rpc.TopUpResponse | rpc.SetBalanceResponse,
) -> Transaction:
    """Translate the answer to a write."""
    return transaction(message.transaction, replayed=message.replayed)


def feature(message: pb.Feature) -> Feature:
    """Translate the message."""
    return Feature(
        feature_id=message.feature_id,
        cost=message.cost,
        title=message.title,
        description=message.description,
        use_case=message.use_case,
    )
