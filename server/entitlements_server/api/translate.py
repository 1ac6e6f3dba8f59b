"""Translates values of the ledger to messages of the contract, and bytes to messages."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from entitlements.v1 import resources_pb2 as pb
from entitlements_server.ledger.catalogue import Access, Feature
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.values import Account, Draw, Kind, Labels, Status, Transaction

_Request = TypeVar("_Request", bound=Message)
_Request_co = TypeVar("_Request_co", bound=Message, covariant=True)


# Looked up only once: see values.py.
_CONSUME = Kind.CONSUME
_DENIED = Status.DENIED


class MessageType(Protocol[_Request_co]):
    """A message class."""

    def FromString(self, data: bytes, /) -> _Request_co:  # noqa: N802  # protobuf's name
        """Parse a message, or raise DecodeError."""


def read_message(message_type: MessageType[_Request], data: bytes) -> _Request:
    """Parse a request.

    Raises:
        InvalidFieldError: The bytes are not such a message. The parser's text is not passed on.
    """
    try:
        return message_type.FromString(data)
    except DecodeError:
        raise InvalidFieldError("request", "cannot be parsed") from None


def put_access(message: pb.Access, access: Access) -> None:
    """Fill an empty message with an access; see `put_transaction`."""
    message.feature = access.feature
    message.allowed = access.allowed
    message.required = access.required
    message.available = access.available
    if access.access_until_us:
        put_timestamp(message.access_until, access.access_until_us)


def feature_message(feature: Feature) -> pb.Feature:
    """Translate a feature."""
    message = pb.Feature(
        feature_id=feature.feature_id,
        cost=feature.cost,
        title=feature.title,
        description=feature.description,
        use_case=feature.use_case,
    )
    if feature.access_us:
        put_duration(message.access, feature.access_us)
    return message


def account_message(account: Account, now_us: int) -> pb.Account:
    """Translate an account, as it is stored, at a time. One without transactions has no times."""
    spendable = settled(account, now_us)
    message = pb.Account(
        user_id=account.user_id,
        balance=account.balance,
        transaction_count=account.transaction_count,
        available=spendable.balance,
    )
    for grant in spendable.grants:
        _put_grant(message.grants.add(), grant)
    if spendable.grants:
        due_us = spendable.grants[0].expire_time_us
        put_timestamp(message.next_expire_time, due_us)
        message.next_expire_amount = sum(
            grant.amount for grant in spendable.grants if grant.expire_time_us == due_us
        )
    if account.transaction_count:
        put_timestamp(message.create_time, account.create_time_us)
        put_timestamp(message.update_time, account.update_time_us)
    return message


def _put_grant(message: pb.Grant, grant: Draw) -> None:
    message.grant_id = grant.grant
    message.amount = grant.amount
    put_timestamp(message.expire_time, grant.expire_time_us)


def put_transaction(message: pb.Transaction, transaction: Transaction) -> None:
    """Fill an empty message with a transaction.

    This is twice as fast as building a message and copying it into the response, and every charge is
    answered with one.
    """
    message.transaction_id = transaction.transaction_id
    message.user_id = transaction.user_id
    message.sequence = transaction.sequence
    # The ledger uses the numbers of the contract.
    message.kind = transaction.kind  # type: ignore[assignment]
    message.status = transaction.status  # type: ignore[assignment]
    message.feature = transaction.feature
    message.cost = transaction.cost
    message.amount = transaction.amount
    message.balance_before = transaction.balance_before
    message.balance_after = transaction.balance_after
    seconds, microseconds = divmod(transaction.create_time_us, 1_000_000)
    message.create_time.seconds = seconds
    message.create_time.nanos = microseconds * 1000
    if transaction.decision_time_us:
        put_timestamp(message.decision_time, transaction.decision_time_us)
    message.event_id = transaction.event_id
    message.idempotency_key = transaction.idempotency_key
    message.reason = transaction.reason
    message.refunded_transaction_id = transaction.refunded_transaction_id
    message.caller = transaction.caller
    message.catalogue_version = transaction.catalogue_version
    if transaction.kind is _CONSUME:
        message.quantity = transaction.quantity or 1
        if transaction.access_until_us:
            put_timestamp(message.access_until, transaction.access_until_us)
        if transaction.status is _DENIED:
            message.available = transaction.available
    if transaction.draws:
        for draw in transaction.draws:
            _put_draw(message.draws.add(), draw)
        if transaction.expire_time_us:
            put_timestamp(message.expire_time, transaction.expire_time_us)
        if transaction.lifetime_us:
            put_duration(message.lifetime, transaction.lifetime_us)
    if transaction.labels:
        message.labels.update(transaction.labels)


def _put_draw(message: pb.Draw, draw: Draw) -> None:
    message.grant = draw.grant
    message.amount = draw.amount
    if draw.expire_time_us:
        put_timestamp(message.expire_time, draw.expire_time_us)


def put_timestamp(message: Timestamp, time_us: int) -> None:
    """Fill an empty message with a time, microseconds since 1970 UTC."""
    seconds, microseconds = divmod(time_us, SECOND_US)
    message.seconds = seconds
    message.nanos = microseconds * 1000


def put_duration(message: Duration, period_us: int) -> None:
    """Fill an empty message with a period, microseconds."""
    seconds, microseconds = divmod(period_us, SECOND_US)
    message.seconds = seconds
    message.nanos = microseconds * 1000


def microseconds_of(message: Timestamp | Duration) -> int:
    """Return a time, in microseconds since 1970 UTC, or a period; smaller fractions are dropped."""
    return message.seconds * SECOND_US + message.nanos // 1000


def labels_of(labels: Mapping[str, str]) -> Labels:
    """Translate labels: in the order of their keys."""
    return tuple(sorted(labels.items())) if labels else ()
