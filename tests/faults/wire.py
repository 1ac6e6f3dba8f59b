"""Requests of the record over gRPC, and what came back as answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from faults.records import Answer, Balance, Charged, Dropped, Line, ReadAccount, Refusal, Request

if TYPE_CHECKING:
    # Known to type checkers only: at run time both clients have one class.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

UNKNOWN = {"", "STORE_UNAVAILABLE"}
"""Reasons after which it is unknown what happened; none at all means that the network says it."""


class BrokenPromiseError(Exception):
    """The server answered in a way that no caller should ever see."""


def message(request: Request) -> tuple[str, Any]:
    """The method and the message of a request."""
    match request:
        case ReadAccount():
            return "GetAccount", pb.GetAccountRequest(user_id=request.user_id)
        case Consume():
            return "Consume", pb.ConsumeRequest(
                user_id=request.user_id,
                feature=request.feature,
                event_id=request.event_id,
                idempotency_key=request.idempotency_key,
            )
        case Refund():
            return "Refund", pb.RefundRequest(
                user_id=request.user_id,
                transaction_id=request.transaction_id,
                amount=request.amount,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
            )
        case TopUp():
            return "TopUp", pb.TopUpRequest(
                user_id=request.user_id,
                amount=request.amount,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
            )
        case SetBalance():
            return "SetBalance", pb.SetBalanceRequest(
                user_id=request.user_id,
                balance=request.balance,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
            )


async def send(
    stub: "EntitlementServiceAsyncStub", request: Request, limit_s: float | None = None
) -> Answer | None:
    """Send one request; None when it is unknown what became of it."""
    method, body = message(request)
    try:
        response = await getattr(stub, method)(body, timeout=limit_s)
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return refusal(status_pb2.Status.FromString(details), error.code().name)
    if isinstance(request, ReadAccount):
        return Balance(response.balance, response.transaction_count)
    return Charged(Line.of(response.transaction), response.replayed)


async def send_together(
    stub: "EntitlementServiceAsyncStub", requests: Sequence[Consume]
) -> list[Answer | None]:
    """Send charges as one BatchConsume."""
    body = pb.BatchConsumeRequest(requests=[message(one)[1] for one in requests])
    try:
        response = await stub.BatchConsume(body)
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        answer = refusal(status_pb2.Status.FromString(details), error.code().name)
        return [answer for _ in requests]
    answers: list[Answer | None] = []
    for result in response.results:
        if result.HasField("error"):
            answers.append(refusal(result.error, "in a batch"))
        else:
            told = result.response
            answers.append(Charged(Line.of(told.transaction), told.replayed))
    return answers


def refusal(status: status_pb2.Status, code: str) -> Answer | None:
    """Translate an error."""
    info = error_details_pb2.ErrorInfo()
    if status.details:
        status.details[0].Unpack(info)
    if info.reason in UNKNOWN:
        if code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
            raise BrokenPromiseError(f"{code}: {status}")
        return None
    if info.reason == "OVERLOADED":
        return Dropped()
    if info.reason == "INTERNAL":
        raise BrokenPromiseError(f"{code}: {status}")
    denied = info.reason == "INSUFFICIENT_TOKENS"
    return Refusal(info.reason, info.metadata["transaction_id"] if denied else "")


async def read_histories(
    stub: "EntitlementServiceAsyncStub", users: Sequence[str]
) -> dict[str, list[Line]]:
    """Read the whole history of each user, oldest first."""
    found = {}
    for user_id in users:
        lines: list[Line] = []
        token = ""
        while True:
            page = await stub.ListTransactions(
                pb.ListTransactionsRequest(user_id=user_id, page_size=1000, page_token=token),
                wait_for_ready=True,
            )
            lines += [Line.of(one) for one in page.transactions]
            token = page.next_page_token
            if not token:
                break
        found[user_id] = lines[::-1]
    return found
