"""Translates values of the ledger to messages of the contract, and bytes to messages."""

from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from entitlements.v1 import resources_pb2 as pb
from entitlements_server.ledger.catalogue import Access, Feature
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.ledger.values import Account, Transaction

_Request = TypeVar("_Request", bound=Message)
_Request_co = TypeVar("_Request_co", bound=Message, covariant=True)


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


def feature_message(feature: Feature) -> pb.Feature:
    """Translate a feature."""
    return pb.Feature(
        feature_id=feature.feature_id,
        cost=feature.cost,
        title=feature.title,
        description=feature.description,
        use_case=feature.use_case,
    )


def account_message(account: Account) -> pb.Account:
    """Translate an account. One without transactions has no times."""
    message = pb.Account(
        user_id=account.user_id,
        balance=account.balance,
        transaction_count=account.transaction_count,
    )
    if account.transaction_count:
        message.create_time.CopyFrom(_timestamp(account.create_time_us))
        message.update_time.CopyFrom(_timestamp(account.update_time_us))
    return message


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
        message.decision_time.CopyFrom(_timestamp(transaction.decision_time_us))
    message.event_id = transaction.event_id
    message.idempotency_key = transaction.idempotency_key
    message.reason = transaction.reason
    message.refunded_transaction_id = transaction.refunded_transaction_id
    message.caller = transaction.caller
    message.catalogue_version = transaction.catalogue_version


def _timestamp(time_us: int) -> Timestamp:
    seconds, microseconds = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1000)
