"""Real servers on a real Redis. `bench/redis_ledger.py` does the same at full length."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.redis import START_SECONDS, RedisClusterServers, RedisServer, flush, started
from support.rpc import fails
from support.trials import duplicates, kill_and_count, race, serving


@pytest.fixture(scope="module", params=["redis", "cluster"])
def running(request: pytest.FixtureRequest) -> Iterator[RedisServer | RedisClusterServers]:
    with started(request.param) as servers:
        yield servers


@pytest.fixture
def servers(running: RedisServer | RedisClusterServers) -> RedisServer | RedisClusterServers:
    flush(running)
    return running


async def test_two_servers_give_the_last_tokens_to_five_of_200_clients(
    servers: RedisServer | RedisClusterServers,
) -> None:
    """200 clients at once, 10 tokens left, 2 a charge: five charges, whichever server is asked."""
    assert await race(servers.url, 2, 200) == {"OK": 5, "FAILED_PRECONDITION": 195}


async def test_a_key_sent_to_two_servers_is_one_charge(
    servers: RedisServer | RedisClusterServers,
) -> None:
    """100 keys, 20 times each, all mixed up: 100 charges."""
    assert await duplicates(servers.url, 2, keys=100, copies=20) == 100


async def test_a_redis_that_is_killed_under_load_loses_and_doubles_nothing() -> None:
    """Whatever was acknowledged before a SIGKILL is there after it, and nothing is there twice."""
    with RedisServer() as redis:
        verdict = await kill_and_count(redis, redis.url, kills=3)
    assert (verdict.lost, verdict.doubled) == (0, 0)
    assert verdict.acknowledged > 150


async def test_while_redis_is_away_health_and_every_call_say_so() -> None:
    """NOT_SERVING and UNAVAILABLE with STORE_UNAVAILABLE until it is back, then all is well."""
    with RedisServer() as redis:
        async with serving(redis.url, 1) as [api]:
            health = health_pb2_grpc.HealthStub(api.channel)
            await api.TopUp(user_id="ada", amount=10)
            redis.kill()
            await _status(health, health_pb2.HealthCheckResponse.NOT_SERVING)
            for call in (
                api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k"),
                api.CheckAccess(user_id="ada", feature="full_distribution"),
                api.ListTransactions(user_id="ada"),
            ):
                failed = await fails(call)
                assert failed.code is grpc.StatusCode.UNAVAILABLE
                assert failed.reason == "STORE_UNAVAILABLE"
            redis.start()
            await _status(health, health_pb2.HealthCheckResponse.SERVING)
            await api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k")
            assert await api.balance("ada") == 8


async def _status(health: Any, wanted: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        async for response in health.Watch(health_pb2.HealthCheckRequest()):
            if response.status == wanted:
                return
