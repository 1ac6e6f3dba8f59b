"""Real servers, one and several, on a real PostgreSQL. `bench/stores.py` does the same at full length."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.postgresql import START_SECONDS, PostgresqlServer, empty
from support.rpc import fails
from support.trials import duplicates, hot, race, serving

SHAPES = [
    pytest.param(2, 1, id="2 servers"),
    pytest.param(4, 1, id="4 servers"),
    pytest.param(1, 4, id="4 workers"),
]


@pytest.fixture(autouse=True)
def transport() -> None:
    """The default. What is shown here does not depend on it, and starts many processes."""


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresqlServer]:
    with PostgresqlServer(max_connections="100") as server:
        yield server


@pytest.fixture
def server(running: PostgresqlServer) -> PostgresqlServer:
    empty(running)
    return running


@pytest.mark.parametrize(("servers", "workers"), SHAPES)
async def test_the_last_tokens_go_to_five_of_200_clients(
    server: PostgresqlServer, servers: int, workers: int
) -> None:
    """200 clients at once, 10 tokens left, 2 a charge: five charges, whichever process is asked."""
    codes = await race(server.url, servers, 200, workers)
    assert codes == {"OK": 5, "FAILED_PRECONDITION": 195}


@pytest.mark.parametrize(("servers", "workers"), SHAPES)
async def test_a_key_sent_to_all_processes_is_one_charge(
    server: PostgresqlServer, servers: int, workers: int
) -> None:
    """1,000 keys, 20 times each, all mixed up: 1,000 charges. A fifth of them for servers that are no workers."""
    keys = 1000 if workers > 1 else 200
    made = await duplicates(server.url, servers, keys=keys, copies=20, workers=workers)
    assert made == keys


async def test_a_hot_user_over_four_servers_makes_progress_for_everyone(
    server: PostgresqlServer,
) -> None:
    """No server starves: each has a fair part of the charges."""
    shares = await hot(server.url, 4, charges=800)
    assert min(shares.charges) > 800 / 4 / 4


async def test_while_postgresql_is_away_health_and_every_call_say_so() -> None:
    """NOT_SERVING and UNAVAILABLE with STORE_UNAVAILABLE until it is back, then all is well."""
    with PostgresqlServer() as postgresql:
        async with serving(postgresql.url, 1) as [api]:
            health = health_pb2_grpc.HealthStub(api.channel)
            await api.TopUp(user_id="ada", amount=10)
            postgresql.crash()
            await _status(health, health_pb2.HealthCheckResponse.NOT_SERVING)
            for call in (
                api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k"),
                api.CheckAccess(user_id="ada", feature="full_distribution"),
                api.ListTransactions(user_id="ada"),
            ):
                failed = await fails(call)
                assert failed.code is grpc.StatusCode.UNAVAILABLE
                assert failed.reason == "STORE_UNAVAILABLE"
            postgresql.start()
            await _status(health, health_pb2.HealthCheckResponse.SERVING)
            await api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k")
            assert await api.balance("ada") == 8


async def _status(health: Any, wanted: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        async for response in health.Watch(health_pb2.HealthCheckRequest()):
            if response.status == wanted:
                return
