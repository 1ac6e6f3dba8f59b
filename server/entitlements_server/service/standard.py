"""The routes of gRPC's own services: health, open to all, and reflection."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Literal

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from entitlements_server.service.calls import Endpoint
from entitlements_server.service.gate import Route
from entitlements_server.service.handlers import read_message
from entitlements_server.service.servicer import Call

HEALTH_CHECK = f"/{health.SERVICE_NAME}/Check"
"""The path of the call that asks for health once."""

_REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"


def health_routes(servicer: health.aio.HealthServicer) -> dict[str, Route]:
    """Return the routes of `grpc.health.v1.Health`. They are never shed."""

    def check(behaviour: Callable[[Any, Any], Awaitable[Message]]) -> Endpoint:
        async def handle(data: bytes, context: Any, _: Call) -> bytes:
            request = read_message(health_pb2.HealthCheckRequest, data)
            return (await behaviour(request, context)).SerializeToString()

        return handle

    async def watch(data: bytes, context: Any, _: Call) -> None:
        await servicer.Watch(read_message(health_pb2.HealthCheckRequest, data), context)

    return {
        HEALTH_CHECK: Route(check(servicer.Check), open=True, shed=False),
        f"/{health.SERVICE_NAME}/Watch": Route(
            watch,
            open=True,
            shed=False,
            handler=_writing(grpc.unary_stream_rpc_method_handler),
            streaming=True,
        ),
    }


def reflection_routes(
    servicer: reflection.aio.ReflectionServicer, who: Literal["callers", "open", "off"]
) -> dict[str, Route]:
    """Return the routes of reflection, for callers, for all, or none."""
    if who == "off":
        return {}

    async def reflect(requests: Any, context: Any, _: Call) -> None:
        async for response in servicer.ServerReflectionInfo(_read(requests), context):
            await context.write(response)

    handler = _writing(grpc.stream_stream_rpc_method_handler)
    return {
        _REFLECTION: Route(reflect, open=who == "open", shed=False, handler=handler, streaming=True)
    }


def _writing(make: Callable[..., Any]) -> Callable[[Any], Any]:
    """Let a streaming handler write messages."""
    return partial(make, response_serializer=lambda message: message.SerializeToString())


async def _read(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for data in requests:
        yield read_message(reflection_pb2.ServerReflectionRequest, data)
