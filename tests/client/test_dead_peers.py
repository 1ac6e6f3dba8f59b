"""What a caller sees when one of several servers stops without a word, or says that it is unwell."""

import asyncio
import select
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements import (
    AsyncEntitlementClient,
    ConsumeRequest,
    EntitlementClient,
    FeatureTier,
    ServiceUnavailableError,
    Transaction,
)
from entitlements._channel import DEFAULT_DEADLINE_S
from entitlements.v1 import entitlement_service_pb2 as rpc
from support.asking import Asking
from support.http2 import ACK, PING, Frame, Http2Connection
from support.redis import RedisServer
from support.server_process import ServerProcess
from support.waiting import until

pytestmark = pytest.mark.slow

FULL = FeatureTier.FULL_DISTRIBUTION
PATIENCE_S = 60

both = pytest.mark.parametrize("kind", ["blocking", "asyncio"])


@asynccontextmanager
async def asking(kind: str, *addresses: str) -> AsyncIterator[Asking]:
    """One of the two clients, with all it ships with."""
    if kind == "blocking":
        with EntitlementClient(addresses) as client:
            yield Asking(client)
    else:
        async with AsyncEntitlementClient(addresses) as client:
            yield Asking(client)


@dataclass(frozen=True)
class Pair:
    """Two servers, each with its own ledger: the balance of `which` says who answered."""

    first: ServerProcess
    second: ServerProcess

    @property
    def addresses(self) -> tuple[str, str]:
        return self.first.address, self.second.address


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ServerProcess() as first, ServerProcess() as second:
        for balance, server in enumerate((first, second), start=1):
            with EntitlementClient(server.address) as client:
                client.set_balance("which", balance)
        yield Pair(first, second)


async def who(ask: Asking) -> int:
    """The server that answers: 1 or 2."""
    balance: int = (await ask("get_account", "which")).balance
    return balance


async def until_answered_by(ask: Asking, *servers: int) -> None:
    """Ask until each of these has answered."""
    missing = set(servers)
    async with asyncio.timeout(PATIENCE_S):
        while missing:
            missing.discard(await who(ask))


@both
async def test_a_server_that_stops_dead_is_given_up_within_one_deadline(
    kind: str, pair: Pair
) -> None:
    """No call fails, all of them together take less than the deadline of one, and the server that
    comes round is asked again."""
    async with asking(kind, *pair.addresses) as ask:
        await until_answered_by(ask, 1, 2)
        pair.first.signal(signal.SIGSTOP)
        # It may be in the middle of an answer.
        frozen = psutil.Process(pair.first.pid)
        await until(lambda: frozen.status() == psutil.STATUS_STOPPED)
        async with asyncio.timeout(DEFAULT_DEADLINE_S):
            assert {await who(ask) for _ in range(20)} == {2}
        pair.first.signal(signal.SIGCONT)
        await until_answered_by(ask, 1, 2)


@both
async def test_a_charge_whose_server_stops_dead_is_made_once_by_another(kind: str) -> None:
    """Two servers of one ledger, charges in flight on both: each is made, and none a second time,
    also when the stopped server wakes up and finds them."""
    with (
        RedisServer() as redis,
        ServerProcess("--store", redis.url) as first,
        ServerProcess("--store", redis.url) as second,
    ):
        async with asking(kind, first.address, second.address) as ask:
            await ask("set_balance", "ada", 1000)
            stopped = asyncio.Event()

            async def charge() -> None:
                for number in range(20):
                    if number == 10:
                        first.signal(signal.SIGSTOP)
                        stopped.set()
                    await ask("consume", "ada", FULL)

            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as charging:
                for _ in range(8):
                    charging.create_task(charge())
            first.signal(signal.SIGCONT)
        with EntitlementClient(first.address) as client:
            assert client.get_account("ada").balance == 1000 - 2 * 8 * 20
            keys = [each.idempotency_key for each in client.list_transactions("ada")]
            assert len(set(keys)) == len(keys) == 1 + 8 * 20


@both
async def test_a_server_that_says_it_is_not_serving_gets_no_calls(
    kind: str, tmp_path: Path
) -> None:
    """Its Redis is gone, the other's is not. Each has a catalogue of its own, which says who
    answered. Back in health it is asked again."""
    with RedisServer() as redis:
        catalogues = []
        for name in ("first", "second"):
            path = tmp_path / f"{name}.toml"
            path.write_text(f'[[features]]\nfeature = "{name}"\ncost = 0\ntitle = "{name}"\n')
            catalogues.append(f"--catalogue={path}")
        with (
            ServerProcess("--store", redis.url, catalogues[0]) as first,
            ServerProcess(catalogues[1]) as second,
        ):
            async with asking(kind, first.address, second.address) as ask:

                async def answered() -> str:
                    [feature] = await ask("list_features")
                    return str(feature.feature_id)

                async def until_both_answered() -> None:
                    seen: set[str] = set()
                    async with asyncio.timeout(PATIENCE_S):
                        while seen != {"first", "second"}:
                            seen.add(await answered())

                await until_both_answered()
                redis.kill()
                await not_serving(first.address)
                await until_in_a_row(answered, "second")
                redis.start()
                await until_both_answered()


@both
async def test_a_server_that_is_leaving_while_long_calls_run_is_not_asked_and_nothing_fails(
    kind: str, pair: Pair
) -> None:
    """It finishes what it has begun; what it sheds is done by the other."""
    async with asking(kind, *pair.addresses) as ask:
        await until_answered_by(ask, 1, 2)
        batch = [ConsumeRequest("ada", "headline_pick") for _ in range(1000)]
        gone = asyncio.Event()

        async def charge() -> None:
            while not gone.is_set():
                results = await ask("batch_consume", batch)
                assert all(isinstance(each, Transaction) for each in results)

        async def look() -> None:
            while not gone.is_set():
                await who(ask)

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as charging:
            for _ in range(4):
                charging.create_task(charge())
                charging.create_task(look())
            await who(ask)
            pair.first.signal(signal.SIGTERM)
            assert await asyncio.to_thread(pair.first.process.wait) == 0
            assert {await who(ask) for _ in range(20)} == {2}
            gone.set()


async def not_serving(address: str) -> None:
    """Return once a server says this of itself."""
    service = rpc.DESCRIPTOR.services_by_name["EntitlementService"].full_name
    async with asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        async for said in health_pb2_grpc.HealthStub(channel).Watch(request):
            if said.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                return


async def until_in_a_row(ask: Callable[[], Awaitable[object]], answer: object) -> None:
    """Ask until twenty answers in a row are this one: the client hears of it when we do, or a
    moment later. Two servers in turn never give two."""
    row = 0
    async with asyncio.timeout(PATIENCE_S):
        while row < 20:
            row = row + 1 if await ask() == answer else 0


class Mute:
    """Something that takes connections and says nothing but what the test lets it say."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        self._listener.settimeout(PATIENCE_S)
        accepted, _ = self._listener.accept()
        accepted.settimeout(PATIENCE_S)
        return accepted

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    mute = Mute()
    yield mute
    mute.close()


def test_an_idle_client_goes_on_pinging_and_lets_go_of_a_peer_that_no_longer_answers(
    mute: Mute,
) -> None:
    """Without any call, and after as many pings as gRPC would send without data on its own."""
    with EntitlementClient(mute.address, deadline_s=0.2) as client:
        with pytest.raises(ServiceUnavailableError):
            client.list_features()  # The client connects with its first call.
        answered = 0
        with Http2Connection(mute.accept(), client=False) as connection:
            while (frame := connection.receive()) is not None:
                if frame.kind == PING and not frame.flags & ACK and answered < 2:
                    connection.send(Frame(PING, ACK, frame.payload))
                    answered += 1
        assert answered == 2


def test_a_peer_that_takes_the_connection_and_says_nothing_is_tried_again_within_the_deadline(
    mute: Mute, service: ServerProcess, user: str
) -> None:
    """The call that waits for it is answered by whatever is there at the next connection."""

    def stand_up_at_the_second_try() -> None:
        with mute.accept(), mute.accept() as near:
            relay(near, service.address)

    with EntitlementClient(mute.address) as client:
        threading.Thread(target=stand_up_at_the_second_try, daemon=True).start()
        assert client.get_account(user).balance == 0


def relay(near: socket.socket, address: str) -> None:
    """Pass on what comes, both ways, until either side closes."""
    host, _, port = address.rpartition(":")
    with near, socket.create_connection((host, int(port))) as far:
        ways = {near: far, far: near}
        while True:
            for source in select.select(list(ways), [], [])[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                ways[source].sendall(data)
