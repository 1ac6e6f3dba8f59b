"""What strangers do to a server. Each attack is bounded in count and in time, and returns what it saw."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hyperframe.frame import SettingsFrame

from entitlements.v1 import entitlement_service_pb2 as pb
from support import raw_http2
from support.raw_http2 import Connection, Header

SERVICE = f"/{pb.DESCRIPTOR.services_by_name['EntitlementService'].full_name}".encode()
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH = b"/grpc.health.v1.Health/Watch"
REFLECTION = b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
NO_UTF8 = b"/\xff\xfe"
PATIENCE_S = 5.0
"""How long a stranger waits for one answer."""

_MAX_CONNECTIONS = 1000
_QUIET_S = 3.0


def bad_paths(address: str, size: int, limit_s: float) -> Counter[str]:
    """Call a path that is no UTF-8, each time over a new connection; returns the outcomes.

    An outcome is the gRPC status, or in words why there is none.
    """
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + limit_s
    while sum(outcomes.values()) < size and time.monotonic() < end:
        try:
            with Connection(address) as connection:
                stream = connection.call(NO_UTF8, message=b"")
                status = connection.answer(stream, PATIENCE_S).status
                outcomes["unanswered" if status is None else str(status)] += 1
        except OSError:
            outcomes["not connected"] += 1
            # Nothing listens: it may come up again.
            time.sleep(0.05)
    return outcomes


def unfinished_calls(connection: Connection, kinds: Sequence[str]) -> bool:
    """Leave a watch, an idle reflection stream, a call without a message; whether they have begun."""
    connection.meet()
    if "watch" in kinds:
        stream = connection.call(HEALTH_WATCH, message=b"")
        if not connection.wait(lambda: stream in connection.answers, PATIENCE_S):
            return False
    if "reflection" in kinds:
        connection.call(REFLECTION)
    if "no message" in kinds:
        connection.call(SERVICE + b"/Consume")
    return connection.ping()


@dataclass(slots=True)
class Held:
    """What became of many calls that a stranger leaves unfinished.

    Attributes:
        begun: Calls begun.
        connections: Connections used.
        statuses: How those calls ended that did: gRPC status, or why there is none.
        open: Calls that were left open at the end.
        seconds: From the first call to the end.
    """

    begun: int = 0
    connections: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    open: int = 0
    seconds: float = 0.0

    def take(self, connection: Connection) -> None:
        """Count what became of a connection's calls."""
        for answer in connection.answers.values():
            if answer.ended:
                status = f"reset {answer.reset}" if answer.status is None else str(answer.status)
                self.statuses[status] += 1
        if connection.closed:
            self.statuses["connection closed"] += connection.unanswered
        else:
            self.open += connection.unanswered


def unread_answers(
    address: str, request: bytes, size: int, connections: int, limit_s: float
) -> Held:
    """Ask for `size` long lists over connections that grant no window for the answers."""
    held, begin = Held(), time.monotonic()
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(Connection(address, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
            for _ in range(connections)
        ]
        held.connections = connections
        shares = dict.fromkeys(strangers, size // connections)
        for stranger in strangers:
            stranger.meet()
        while any(shares.values()) and time.monotonic() < begin + limit_s:
            for stranger in strangers:
                room = min(stranger.max_streams - stranger.unanswered, shares[stranger])
                for _ in range(room):
                    stranger.call(SERVICE + b"/ListTransactions", message=request)
                shares[stranger] = 0 if stranger.closed else shares[stranger] - max(room, 0)
                held.begun += max(room, 0)
                stranger.wait(lambda: False, 0.02)
        # Until the server has worked on all that it took.
        _settle(strangers, begin + limit_s)
        held.seconds = time.monotonic() - begin
        for stranger in strangers:
            held.take(stranger)
    return held


def _settle(strangers: Sequence[Connection], end: float) -> None:
    """Read until each call has an end or at least headers, nothing comes any more, or the time is up."""
    quiet_since, seen = time.monotonic(), (-1, -1)
    while time.monotonic() < min(quiet_since + _QUIET_S, end):
        for stranger in strangers:
            stranger.wait(lambda: False, 0.02)
        begun = sum(len(stranger.answers) for stranger in strangers)
        unanswered = sum(stranger.unanswered for stranger in strangers)
        if (begun, unanswered) != seen:
            quiet_since, seen = time.monotonic(), (begun, unanswered)
        if not any(stranger.silent for stranger in strangers):
            return


def silent_calls(address: str, size: int, limit_s: float) -> Held:
    """Begin `size` calls of Health/Check whose message never comes, and wait for their ends."""
    held, begin = Held(), time.monotonic()
    with ExitStack() as stack:
        strangers: list[Connection] = []
        while held.begun < size and len(strangers) < _MAX_CONNECTIONS:
            try:
                stranger = stack.enter_context(Connection(address))
            except OSError:
                break
            strangers.append(stranger)
            if not stranger.meet():
                continue
            begun = min(stranger.max_streams, size - held.begun)
            for _ in range(begun):
                stranger.call(HEALTH_CHECK)
            held.begun += begun
        held.connections = len(strangers)
        for stranger in strangers:
            _wait_for_ends(stranger, begin + limit_s)
        held.seconds = time.monotonic() - begin
        for stranger in strangers:
            held.take(stranger)
    return held


def _wait_for_ends(stranger: Connection, end: float) -> None:
    stranger.wait(lambda: not stranger.unanswered, end - time.monotonic())


def idle_connections(address: str, size: int, limit_s: float) -> int:
    """Open `size` connections that do nothing; returns how many the server keeps."""
    end = time.monotonic() + limit_s
    with ExitStack() as stack:
        strangers = []
        for _ in range(size):
            try:
                strangers.append(stack.enter_context(Connection(address)))
            except OSError:
                continue
        return sum(one.ping(max(end - time.monotonic(), 0.1)) for one in strangers)


@dataclass(slots=True)
class Watched:
    """What became of many watches over one connection of a real client.

    Attributes:
        served: Watches that got their first status and stay open.
        ended: How the others ended; those that got nothing at all are "nothing".
        own_call: How a unary call over the same connection ended.
        other_watch: What a watch of another client got.
    """

    served: int
    ended: Counter[str]
    own_call: str
    other_watch: str


async def watches(address: str, size: int) -> Watched:
    """Open `size` watches of health over one connection, and see who else is served."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    async with (
        grpc.aio.insecure_channel(address, options) as channel,
        grpc.aio.insecure_channel(address, options) as other,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        calls = [stub.Watch(request) for _ in range(size)]
        firsts = Counter(await asyncio.gather(*(_first(call) for call in calls)))
        own = stub.Check(request, timeout=PATIENCE_S)
        watch = health_pb2_grpc.HealthStub(other).Watch(request)
        seen = Watched(
            firsts.pop("SERVING", 0), firsts, (await own.code()).name, await _first(watch)
        )
        for call in [*calls, watch]:
            call.cancel()
    return seen


def surplus_watches(address: str, bursts: int, size: int) -> Held:
    """Open watches over one connection in bursts, each once nothing more comes of the last."""
    held, begin = Held(connections=1), time.monotonic()
    with Connection(address) as connection:
        connection.meet()
        for _ in range(bursts):
            for _ in range(size):
                connection.call(HEALTH_WATCH, message=b"")
            _settle([connection], begin + PATIENCE_S * bursts)
        held.begun, held.seconds = bursts * size, time.monotonic() - begin
        held.take(connection)
    return held


async def _first(watch: "grpc.aio.UnaryStreamCall[object, object]") -> str:
    """What a watch sent first, or how it ended."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            told = await watch.read()
            if isinstance(told, health_pb2.HealthCheckResponse):
                return str(health_pb2.HealthCheckResponse.ServingStatus.Name(told.status))
            return (await watch.code()).name
    except TimeoutError:
        return "nothing"
    except grpc.aio.AioRpcError as error:
        return error.code().name


def wrong_tokens(address: str, rate: float, seconds: float) -> Counter[str]:
    """Call with tokens that nobody has, `rate` times a second; returns the gRPC statuses."""
    statuses: Counter[str] = Counter()
    begin = time.monotonic()
    sent = 0
    with Connection(address) as connection:
        connection.meet()
        while (passed := time.monotonic() - begin) < seconds and not connection.closed:
            while sent < passed * rate and connection.unanswered < connection.max_streams:
                sent += 1
                token = b"Bearer ent_" + b"%043d" % sent
                connection.call(SERVICE + b"/Consume", (b"authorization", token), message=b"")
            connection.wait(lambda: False, 0.005)
        held = Held()
        held.take(connection)
        statuses += held.statuses
    return statuses


def noisy_metadata(address: str, size: int) -> int:
    """Call `size` times with 40 metadata values that are no ASCII; returns how many were answered."""
    noise: list[Header] = [(b"x-noise-%d" % number, b"\xff") for number in range(40)]
    answered = 0
    with Connection(address) as connection:
        connection.meet()
        for _ in range(size):
            stream = connection.call(HEALTH_CHECK, *noise, message=b"")
            answered += connection.answer(stream, PATIENCE_S).ended
    return answered


def no_handshakes(address: str, size: int) -> int:
    """Say "hello" to a port of TLS `size` times; returns how often the server closed the connection."""
    closed = 0
    for _ in range(size):
        with raw_http2.connect(address) as stranger:
            stranger.settimeout(PATIENCE_S)
            stranger.sendall(b"hello")
            stranger.shutdown(socket.SHUT_WR)
            try:
                while stranger.recv(4096):
                    pass
            except TimeoutError:
                continue
            except ConnectionError:
                pass
            closed += 1
    return closed
