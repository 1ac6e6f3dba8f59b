"""Calls over a real channel, and what their errors say."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from entitlements_server.app import running
from entitlements_server.config.callers import Caller
from entitlements_server.config.settings import Settings


@dataclass(frozen=True)
class Failure:
    """How a call failed: its code, its ErrorInfo, and its other details and trailers."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    details: list[Message]
    trailers: dict[str, str | bytes]


def failure(error: grpc.aio.AioRpcError) -> Failure:
    """Take an error apart; it must carry an ErrorInfo of our domain."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return failure_of_status(error.code(), status, trailers)


def failure_of_status(
    code: grpc.StatusCode, status: status_pb2.Status, trailers: dict[str, Any]
) -> Failure:
    """Take a status apart, whether it ended a call or stood in a batch."""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "entitlements"
    others: list[Message] = []
    for detail in status.details[1:]:
        message = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
        assert detail.Unpack(message)
        others.append(message)
    return Failure(code, status.message, info.reason, dict(info.metadata), others, trailers)


async def fails(call: Awaitable[Any]) -> Failure:
    """Await a call that has to fail."""
    try:
        response = await call
    except grpc.aio.AioRpcError as error:
        return failure(error)
    raise AssertionError(f"The call succeeded: {response}")


def raw(channel: grpc.aio.Channel, path: str) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    """A method that takes bytes, whether they are a message or not."""
    return channel.unary_unary(path)


def raw_stream(
    channel: grpc.aio.Channel, path: str
) -> "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]":
    """One whose answers are a stream."""
    return channel.unary_stream(path)


def raw_streams(
    channel: grpc.aio.Channel, path: str
) -> "grpc.aio.StreamStreamMultiCallable[bytes, bytes]":
    """One with a stream in both directions."""
    return channel.stream_stream(path)


class Api:
    """The generated stub, with the requests spelled as keyword arguments."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub: Any = EntitlementServiceStub(channel)

    def __getattr__(self, rpc: str) -> Any:
        request_type = getattr(pb, f"{rpc}Request")
        method = getattr(self.stub, rpc)

        def call(*, timeout: float | None = 30, **fields: Any) -> Any:
            return method(request_type(**fields), timeout=timeout)

        return call

    async def balance(self, user_id: str) -> int:
        return int((await self.GetAccount(user_id=user_id)).balance)

    async def history(self, user_id: str, **filters: Any) -> list[Any]:
        """The whole history, newest first, page by page."""
        found: list[Any] = []
        token = ""
        while True:
            page = await self.ListTransactions(user_id=user_id, page_token=token, **filters)
            found += page.transactions
            token = page.next_page_token
            if not token:
                return found


@asynccontextmanager
async def serving(callers: Sequence[Caller] = (), **settings: Any) -> AsyncIterator[Api]:
    """A server in this process, on a free port, and a channel to it."""
    async with (
        running(Settings(**{"listen": "127.0.0.1:0", **settings}), callers) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Api(channel)
