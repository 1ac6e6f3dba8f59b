"""Each call as a value: the request, and how to read its response. Nothing here does I/O.

The two clients only run these values, one with blocking gRPC and one with asyncio.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from entitlements import _error_mapping, _values
from entitlements._errors import EntitlementError, InvalidRequestError
from entitlements._values import (
    Access,
    Account,
    ConsumeRequest,
    Feature,
    Transaction,
    TransactionKind,
    TransactionStatus,
)
from entitlements.v1 import entitlement_service_pb2 as rpc

T = TypeVar("T")
M = TypeVar("M", bound=Message)

NO_LABELS: Mapping[str, str] = MappingProxyType({})
"""The default of arguments."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call to the service.

    Attributes:
        method: Name of the RPC.
        request: The message to send.
        read: Makes the value to return from the response message.
        idempotency_key: The key in `request`, for the error if the call fails.
    """

    method: str
    request: Message
    read: Callable[[Any], T]
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a history, and the token of the next one. Empty: this is the last page."""

    transactions: tuple[Transaction, ...]
    next_page_token: str


def new_key() -> str:
    """Make a unique idempotency key."""
    return uuid4().hex


def _message(kind: type[M], at: str = "", /, **fields: Any) -> M:
    """Make a request.

    Args:
        kind: Its type.
        at: Where it is in the arguments of the caller, as the beginning of a field's name.
        fields: What it has.

    Raises:
        TypeError: A field is of another type.
        InvalidRequestError: A value cannot be sent at all: a number is too large for its field, or a
            text has a surrogate.
    """
    try:
        return kind(**fields)
    except (TypeError, ValueError):
        # protobuf does not say which of them it was.
        for name, value in fields.items():
            try:
                kind(**{name: value})
            except TypeError:
                raise TypeError(
                    f"{at}{name} must be {_expected(kind, name)}, not {type(value).__name__}. "
                    "Nothing was sent."
                ) from None
            except ValueError:
                raise _invalid(
                    f"{at}{name}", "cannot be sent: a number is too large, or a text is not Unicode"
                ) from None
        raise


def _invalid(field: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The value of {field} {why}. Nothing was sent.",
        reason="INVALID_FIELD",
        metadata={"field": field},
    )


def _expected(kind: type[Message], name: str) -> str:
    field = kind.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        return "a mapping of str to str"  # Times and periods are messages already.
    one = "str" if field.type == field.TYPE_STRING else "int"
    return f"a sequence of {one}" if field.is_repeated else one


def check_access(user_id: str, feature: str, event_id: str) -> Call[Access]:
    """Check one feature."""
    request = _message(rpc.CheckAccessRequest, user_id=user_id, feature=feature, event_id=event_id)
    return Call("CheckAccess", request, lambda response: _values.access(response.access))


def batch_check_access(
    user_id: str, features: Iterable[str], event_id: str
) -> Call[tuple[Access, ...]]:
    """Check several features. None: the whole catalogue."""
    named = tuple(features) if isinstance(features, Iterable) else features
    request = _message(
        rpc.BatchCheckAccessRequest, user_id=user_id, features=named, event_id=event_id
    )
    return Call("BatchCheckAccess", request, lambda r: tuple(map(_values.access, r.access)))


def consume(request: ConsumeRequest) -> Call[Transaction]:
    """Charge. A request without a key gets one, so that gRPC may retry it."""
    key = request.idempotency_key or new_key()
    return Call("Consume", _consume_message(request, key), _values.charged, key)


def batch_consume(
    requests: Sequence[ConsumeRequest],
) -> Call[list[Transaction | EntitlementError]]:
    """Charge several times, each on its own."""
    keys = [request.idempotency_key or new_key() for request in requests]
    messages = [
        _consume_message(request, key, f"requests[{index}].")
        for index, (request, key) in enumerate(zip(requests, keys, strict=True))
    ]

    def read(response: rpc.BatchConsumeResponse) -> list[Transaction | EntitlementError]:
        return [
            _values.charged(result.response)
            if result.HasField("response")
            else _error_mapping.from_status(result.error, key)
            for result, key in zip(response.results, keys, strict=True)
        ]

    return Call("BatchConsume", rpc.BatchConsumeRequest(requests=messages), read)


def refund(
    user_id: str,
    transaction_id: str,
    amount: int,
    *,
    reason: str,
    idempotency_key: str | None,
    labels: Mapping[str, str] = NO_LABELS,
) -> Call[Transaction]:
    """Refund a charge. Amount 0: all that remains."""
    key = idempotency_key or new_key()
    request = _message(
        rpc.RefundRequest,
        user_id=user_id,
        transaction_id=transaction_id,
        amount=amount,
        reason=reason,
        idempotency_key=key,
        labels=labels,
    )
    return Call("Refund", request, _values.written, key)


def top_up(
    user_id: str,
    amount: int,
    *,
    expire_time: datetime | None,
    lifetime: timedelta | None,
    reason: str,
    idempotency_key: str | None,
    labels: Mapping[str, str],
) -> Call[Transaction]:
    """Add tokens, which may expire."""
    key = idempotency_key or new_key()
    if expire_time is not None and lifetime is not None:
        raise _invalid("lifetime", "cannot be sent together with expire_time: choose one of them")
    expiry: dict[str, Message] = {}
    if expire_time is not None:
        expiry = {"expire_time": _timestamp("expire_time", expire_time)}
    elif lifetime is not None:
        expiry = {"lifetime": _duration("lifetime", lifetime)}
    request = _message(
        rpc.TopUpRequest,
        user_id=user_id,
        amount=amount,
        reason=reason,
        idempotency_key=key,
        labels=labels,
        **expiry,
    )
    return Call("TopUp", request, _values.written, key)


def _timestamp(name: str, value: datetime) -> Timestamp:
    if not isinstance(value, datetime):
        raise TypeError(f"{name} must be datetime, not {type(value).__name__}. Nothing was sent.")
    if value.tzinfo is None:
        raise _invalid(name, "has no time zone: write UTC where UTC is meant")
    message = Timestamp()
    message.FromDatetime(value)
    return message


def _duration(name: str, value: timedelta) -> Duration:
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be timedelta, not {type(value).__name__}. Nothing was sent.")
    message = Duration()
    try:
        message.FromTimedelta(value)
    except ValueError:
        raise _invalid(name, "cannot be sent: it is too long") from None
    return message


def set_balance(
    user_id: str,
    balance: int,
    *,
    reason: str,
    idempotency_key: str | None,
    labels: Mapping[str, str],
) -> Call[Transaction]:
    """Set the balance."""
    key = idempotency_key or new_key()
    request = _message(
        rpc.SetBalanceRequest,
        user_id=user_id,
        balance=balance,
        reason=reason,
        idempotency_key=key,
        labels=labels,
    )
    return Call("SetBalance", request, _values.written, key)


def get_account(user_id: str) -> Call[Account]:
    """Read an account."""
    return Call("GetAccount", _message(rpc.GetAccountRequest, user_id=user_id), _values.account)


def get_transaction(user_id: str, transaction_id: str) -> Call[Transaction]:
    """Read one transaction."""
    request = _message(rpc.GetTransactionRequest, user_id=user_id, transaction_id=transaction_id)
    return Call("GetTransaction", request, _values.transaction)


@dataclass(frozen=True, slots=True)
class History:
    """Which transactions of a user to read. `page` reads some of them."""

    user_id: str
    feature: str
    kind: TransactionKind | None
    status: TransactionStatus | None
    page_size: int

    def page(self, token: str) -> Call[Page]:
        """Read the page of this token. Empty: the newest page.

        Raises:
            ValueError: A filter is UNKNOWN.
        """
        if "UNKNOWN" in (self.kind, self.status):
            raise ValueError(
                "The kind or status UNKNOWN cannot be a filter. Leave the filter out to read all."
            )
        request = _message(
            rpc.ListTransactionsRequest,
            user_id=self.user_id,
            page_size=self.page_size,
            page_token=token,
            feature=self.feature,
            kind=f"TRANSACTION_KIND_{self.kind or 'UNSPECIFIED'}",
            status=f"TRANSACTION_STATUS_{self.status or 'UNSPECIFIED'}",
        )
        return Call("ListTransactions", request, _page)


def list_features() -> Call[tuple[Feature, ...]]:
    """Read the catalogue."""
    return Call(
        "ListFeatures", rpc.ListFeaturesRequest(), lambda r: tuple(map(_values.feature, r.features))
    )


def _consume_message(request: ConsumeRequest, key: str, at: str = "") -> rpc.ConsumeRequest:
    if request.quantity == 0:
        # On the wire that is a field that is not set, and so one use.
        raise _invalid(f"{at}quantity", "must be at least 1")
    return _message(
        rpc.ConsumeRequest,
        at,
        user_id=request.user_id,
        feature=request.feature,
        event_id=request.event_id,
        idempotency_key=key,
        quantity=request.quantity,
        max_cost=request.max_cost,
        labels=request.labels,
    )


def _page(response: rpc.ListTransactionsResponse) -> Page:
    return Page(tuple(map(_values.transaction, response.transactions)), response.next_page_token)
