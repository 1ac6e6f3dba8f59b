"""The methods of the service, the role that each requires, and what serves it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.api.route import Call, Result, Route, Serve
from entitlements_server.api.servicer import Servicer
from entitlements_server.api.translate import MessageType, read_message
from entitlements_server.config.callers import Role

_Request = TypeVar("_Request", bound=Message)

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"].full_name
"""The full name of the service."""

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
"""The role that each RPC requires. An RPC that is missing here is not served."""


def service_routes(servicer: Servicer) -> dict[str, Route]:
    """Return the routes of all RPCs of the service."""
    serve = {
        "CheckAccess": _serve(pb.CheckAccessRequest, servicer.check_access),
        "BatchCheckAccess": _serve(pb.BatchCheckAccessRequest, servicer.batch_check_access),
        "Consume": _serve(pb.ConsumeRequest, servicer.consume),
        "BatchConsume": _serve(pb.BatchConsumeRequest, servicer.batch_consume),
        "Refund": _serve(pb.RefundRequest, servicer.refund),
        "TopUp": _serve(pb.TopUpRequest, servicer.top_up),
        "SetBalance": _serve(pb.SetBalanceRequest, servicer.set_balance),
        "GetAccount": _serve(pb.GetAccountRequest, servicer.get_account),
        "GetTransaction": _serve(pb.GetTransactionRequest, servicer.get_transaction),
        "ListTransactions": _serve(pb.ListTransactionsRequest, servicer.list_transactions),
        "ListFeatures": _serve(pb.ListFeaturesRequest, servicer.list_features),
    }
    routes = (
        Route(method=f"{SERVICE}/{name}", role=role, serve=serve[name])
        for name, role in ROLES.items()
    )
    return {f"/{route.method}": route for route in routes}


def _serve(
    request_type: MessageType[_Request], method: Callable[[_Request, Call], Result]
) -> Serve:
    def serve(data: bytes, call: Call) -> Result:
        return method(read_message(request_type, data), call)

    return serve
