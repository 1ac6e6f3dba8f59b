"""The methods of our service: where each is, who may call it, and how its request is read."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.callers import Role
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.service.calls import Endpoint
from entitlements_server.service.gate import Route
from entitlements_server.service.servicer import Call, Servicer

_Request = TypeVar("_Request", bound=Message)
_Request_co = TypeVar("_Request_co", bound=Message, covariant=True)

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"].full_name
"""Full name of the service."""

ROLES: Mapping[str, Role] = {
    "CheckAccess": Role.READER,
    "BatchCheckAccess": Role.READER,
    "GetAccount": Role.READER,
    "GetTransaction": Role.READER,
    "ListTransactions": Role.READER,
    "ListFeatures": Role.READER,
    "Consume": Role.CHARGER,
    "BatchConsume": Role.CHARGER,
    "Refund": Role.CHARGER,
    "TopUp": Role.FUNDER,
    "SetBalance": Role.FUNDER,
}
"""Which role each RPC takes. An RPC that is not here is not served."""


class _MessageType(Protocol[_Request_co]):
    def FromString(self, data: bytes, /) -> _Request_co: ...  # noqa: N802  # protobuf's name


def service_routes(servicer: Servicer) -> dict[str, Route]:
    """Return the routes of all RPCs of the service."""
    endpoints = {
        "CheckAccess": _endpoint(pb.CheckAccessRequest, servicer.check_access),
        "BatchCheckAccess": _endpoint(pb.BatchCheckAccessRequest, servicer.batch_check_access),
        "Consume": _endpoint(pb.ConsumeRequest, servicer.consume),
        "BatchConsume": _batch_endpoint(servicer.batch_consume),
        "Refund": _endpoint(pb.RefundRequest, servicer.refund),
        "TopUp": _endpoint(pb.TopUpRequest, servicer.top_up),
        "SetBalance": _endpoint(pb.SetBalanceRequest, servicer.set_balance),
        "GetAccount": _endpoint(pb.GetAccountRequest, servicer.get_account),
        "GetTransaction": _endpoint(pb.GetTransactionRequest, servicer.get_transaction),
        "ListTransactions": _endpoint(pb.ListTransactionsRequest, servicer.list_transactions),
        "ListFeatures": _endpoint(pb.ListFeaturesRequest, servicer.list_features),
    }
    return {f"/{SERVICE}/{name}": Route(endpoints[name], role) for name, role in ROLES.items()}


def read_message(message_type: _MessageType[_Request], data: bytes) -> _Request:
    """Read a request.

    Raises:
        InvalidFieldError: The bytes are not such a message; what the parser says stays here.
    """
    try:
        return message_type.FromString(data)
    except DecodeError:
        raise InvalidFieldError("request", "cannot be read as its message") from None


def _endpoint(
    request_type: _MessageType[_Request],
    behaviour: Callable[[_Request, Call], Awaitable[Message]],
) -> Endpoint:
    async def handle(data: bytes, _: Any, call: Call) -> bytes:
        response = await behaviour(read_message(request_type, data), call)
        return response.SerializeToString()

    return handle


def _batch_endpoint(
    behaviour: Callable[[pb.BatchConsumeRequest, Call], Awaitable[Message]],
) -> Endpoint:
    async def handle(data: bytes, _: Any, call: Call) -> bytes:
        request = read_message(pb.BatchConsumeRequest, data)
        if call.bucket is not None:
            # A batch counts as what it holds: the gate has counted one call.
            call.bucket.owe(len(request.requests) - 1)
        response = await behaviour(request, call)
        return response.SerializeToString()

    return handle
