"""What a server that stops still says to those who listen, and to those who come."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
from grpc_health.v1 import health_pb2

from entitlements_server.api.admission import Bounds
from entitlements_server.api.auth import Auth
from entitlements_server.api.dispatcher import Dispatcher
from entitlements_server.api.health import SERVICE, Health
from entitlements_server.api.reporter import Reporter
from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from entitlements_server.engine.engine import Engine
from entitlements_server.engine.handover import Handover
from entitlements_server.transport.interface import CallStatus, Metadata
from support.rpc import Api, raw_stream
from support.stores import GatedStore
from support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class SlowCall:
    """A watch of health whose peer takes what is sent to it when the test says so."""

    path: str = f"/{SERVICE}/Watch"
    metadata: Metadata = ()
    deadline_s: float | None = None
    statuses: list[int] = field(default_factory=list)
    failed: CallStatus | None = None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        return {}

    def has_room(self, size: int = 0) -> bool:
        return True

    def receive(self) -> None: ...

    def finish(self) -> None: ...

    def reply(self, message: bytes) -> None: ...

    def send(self, message: bytes) -> None:
        assert self.failed is None
        self.statuses.append(health_pb2.HealthCheckResponse.FromString(message).status)

    def fail(self, status: CallStatus) -> None:
        self.failed = status


def watched(call: SlowCall) -> tuple[Health, Dispatcher]:
    health = Health(("",))
    dispatcher = Dispatcher(
        health.routes(),
        Auth(()),
        cast("Engine", None),
        Reporter(),
        Bounds(max_in_flight=1, max_streaming=1, max_streaming_per_connection=1),
        to_loop=Handover(asyncio.get_running_loop(), lambda function: function()),
    )
    return health, dispatcher


async def test_a_slow_watch_of_health_gets_not_serving_before_it_is_ended() -> None:
    call = SlowCall()
    health, dispatcher = watched(call)
    session = dispatcher.begin(call)
    session.received(b"")
    health.leave()
    dispatcher.leave()
    assert call.statuses == [SERVING]
    assert call.failed is None
    session.sent()
    assert call.statuses == [SERVING, NOT_SERVING]
    assert call.failed is None
    session.sent()
    assert call.failed is not None
    assert call.failed.code is grpc.StatusCode.UNAVAILABLE


async def test_a_watch_of_health_whose_peer_reads_nothing_is_ended_all_the_same() -> None:
    call = SlowCall()
    health, dispatcher = watched(call)
    dispatcher.begin(call).received(b"")
    health.leave()
    dispatcher.leave()
    await until(lambda: call.failed is not None)
    assert call.statuses == [SERVING]


async def test_a_watch_of_health_that_got_not_serving_is_ended_at_once() -> None:
    call = SlowCall()
    health, dispatcher = watched(call)
    session = dispatcher.begin(call)
    session.received(b"")
    session.sent()
    health.leave()
    session.sent()
    dispatcher.leave()
    assert call.statuses == [SERVING, NOT_SERVING]
    assert call.failed is not None


async def test_a_watch_that_is_opened_while_the_server_stops_does_not_keep_it(
    gated: GatedStore,
) -> None:
    """Clients that watch health open their watch again when it ends."""
    serving = running(Settings(listen="127.0.0.1:0", drain_seconds=60))
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.address) as channel:
        begun = asyncio.ensure_future(Api(channel).TopUp(user_id="ada", amount=1))
        await gated.begun.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        watch = raw_stream(channel, "/grpc.health.v1.Health/Watch")
        refused = None
        while refused is not grpc.StatusCode.UNAVAILABLE:
            # Before the server knows that it stops the watch is served, and then ended.
            refused = await watch(b"").code()
        gated.gate.set()
        await begun
        async with asyncio.timeout(20):
            await stopping
