"""What stands between gRPC and the servicer: parsing, deadlines, and how errors are answered.

gRPC would send the text of any exception to the caller, that of a parse error included. So the
handlers take and return bytes, and nothing but the table in `status.py` decides what leaves.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.ledger.errors import InvalidFieldError
from entitlements_server.service.servicer import Call, Servicer
from entitlements_server.service.status import answer, is_known

_Request = TypeVar("_Request", bound=Message)
_Request_co = TypeVar("_Request_co", bound=Message, covariant=True)

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"].full_name
"""Full name of the service."""

log = structlog.get_logger()


class _MessageType(Protocol[_Request_co]):
    def FromString(self, data: bytes, /) -> _Request_co: ...  # noqa: N802  # protobuf's name


def generic_handler(servicer: Servicer) -> grpc.GenericRpcHandler:
    """Return the handler of all RPCs of the service."""
    handlers = {
        "CheckAccess": _handler(pb.CheckAccessRequest, servicer.check_access),
        "BatchCheckAccess": _handler(pb.BatchCheckAccessRequest, servicer.batch_check_access),
        "Consume": _handler(pb.ConsumeRequest, servicer.consume),
        "BatchConsume": _handler(pb.BatchConsumeRequest, servicer.batch_consume),
        "Refund": _handler(pb.RefundRequest, servicer.refund),
        "TopUp": _handler(pb.TopUpRequest, servicer.top_up),
        "SetBalance": _handler(pb.SetBalanceRequest, servicer.set_balance),
        "GetAccount": _handler(pb.GetAccountRequest, servicer.get_account),
        "GetTransaction": _handler(pb.GetTransactionRequest, servicer.get_transaction),
        "ListTransactions": _handler(pb.ListTransactionsRequest, servicer.list_transactions),
        "ListFeatures": _handler(pb.ListFeaturesRequest, servicer.list_features),
    }
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _handler(
    request_type: _MessageType[_Request],
    behaviour: Callable[[_Request, Call], Awaitable[Message]],
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    async def handle(data: bytes, context: Any) -> bytes:
        try:
            request = request_type.FromString(data)
        except DecodeError:
            await _fail(InvalidFieldError("request", "cannot be read as its message"), context)
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        try:
            response = await behaviour(request, Call(deadline=deadline))
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            await _fail(error, context)
        return response.SerializeToString()

    return grpc.unary_unary_rpc_method_handler(handle)


async def _fail(error: Exception, context: Any) -> NoReturn:
    reference = ""
    if not is_known(error):
        reference = secrets.token_hex(4)
        log.error("A call failed unforeseen.", reference=reference, exc_info=error)
    failed = answer(error, reference)
    await context.abort(failed.code, failed.status.message, failed.trailers)
    raise AssertionError("abort returned")
