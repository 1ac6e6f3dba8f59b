"""Requests of the record over gRPC, and what came back as answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1 import resources_pb2 as resources
from entitlements_server.api.translate import (
    labels_of,
    microseconds_of,
    put_duration,
    put_timestamp,
)
from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from faults.records import (
    Answer,
    Balance,
    Charged,
    Dropped,
    Line,
    Moved,
    ReadAccount,
    Refusal,
    Request,
    same_fields,
)

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
                quantity=request.quantity,
                max_cost=request.max_cost,
                idempotency_key=request.idempotency_key,
                labels=dict(request.labels),
            )
        case Refund():
            return "Refund", pb.RefundRequest(
                user_id=request.user_id,
                transaction_id=request.transaction_id,
                amount=request.amount,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
                labels=dict(request.labels),
            )
        case TopUp():
            body = pb.TopUpRequest(
                user_id=request.user_id,
                amount=request.amount,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
                labels=dict(request.labels),
            )
            if request.expire_time_us is not None:
                put_timestamp(body.expire_time, request.expire_time_us)
            if request.lifetime_us is not None:
                put_duration(body.lifetime, request.lifetime_us)
            return "TopUp", body
        case SetBalance():
            return "SetBalance", pb.SetBalanceRequest(
                user_id=request.user_id,
                balance=request.balance,
                reason=request.reason,
                idempotency_key=request.idempotency_key,
                labels=dict(request.labels),
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
        return _balance(response)
    return _charged(response)


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
            answers.append(_charged(result.response))
    return answers


def line(message: resources.Transaction) -> Line:
    """Take a line from a message of the contract."""
    decided = message.decision_time if message.HasField("decision_time") else message.create_time
    return Line(
        **same_fields(message),
        time_us=microseconds_of(decided),
        quantity=message.quantity,
        draws=tuple(
            Moved(one.grant, one.amount, microseconds_of(one.expire_time)) for one in message.draws
        ),
        expire_time_us=microseconds_of(message.expire_time),
        lifetime_us=microseconds_of(message.lifetime),
        access_until_us=microseconds_of(message.access_until),
        available=message.available,
        labels=labels_of(message.labels),
    )


def _balance(account: resources.Account) -> Balance:
    grants = tuple(
        Moved(one.grant_id, one.amount, microseconds_of(one.expire_time)) for one in account.grants
    )
    first_us = grants[0].expire_time_us if grants else 0
    first = sum(one.amount for one in grants if one.expire_time_us == first_us)
    told = (microseconds_of(account.next_expire_time), account.next_expire_amount)
    if told != (first_us, first):
        raise BrokenPromiseError(f"The next expiry is not that of the grants: {account}")
    return Balance(account.balance, account.transaction_count, account.available, grants)


def _charged(response: Any) -> Charged:
    if not isinstance(response, pb.ConsumeResponse):
        return Charged(line(response.transaction), response.replayed)
    if response.access_until != response.transaction.access_until:
        raise BrokenPromiseError(f"Access ends at two times: {response}")
    told = line(response.transaction)
    return Charged(told, response.replayed, response.covered, response.refunded)


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
            lines += [line(one) for one in page.transactions]
            token = page.next_page_token
            if not token:
                break
        found[user_id] = lines[::-1]
    return found
