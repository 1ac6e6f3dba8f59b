"""A server whose wall clock is set while it runs, and two servers whose wall clocks differ."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements_server import app
from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from entitlements_server.engine import clock
from entitlements_server.engine.clock import Clock, LocalClock
from entitlements_server.stores.interface import Store
from support.redis import RedisServer
from support.rpc import Api, fails
from support.waiting import PATIENCE_S

YEAR_US = 366 * 86_400_000_000
HOUR_US = 3_600_000_000
CHARGE = {"user_id": "ada", "feature": "full_distribution"}


class Wall:
    """The wall clock of a machine, ahead of the right time by so much."""

    def __init__(self, ahead_us: int = 0) -> None:
        self.ahead_us = ahead_us

    def __call__(self) -> int:
        return right_us() + self.ahead_us


right_us = clock.wall_clock_us


@asynccontextmanager
async def serving(store: str) -> AsyncIterator[Api]:
    async with (
        running(Settings(listen="127.0.0.1:0", store=store)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Api(channel)


async def test_a_jump_of_a_year_ahead_and_back_writes_nothing_and_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()

    async def clock_of(_: Store) -> Clock:
        return LocalClock(wall)

    monkeypatch.setattr(app, "clock_of", clock_of)
    async with serving(f"sqlite://{tmp_path}/ledger.sqlite") as api:
        health: Any = health_pb2_grpc.HealthStub(api.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        statuses: Callable[[], Any] = watch.read
        assert (await statuses()).status == health_pb2.HealthCheckResponse.SERVING
        await api.TopUp(user_id="ada", amount=6, lifetime=Duration(seconds=3600))
        for jump_us, left in ((YEAR_US, 6), (-YEAR_US, 4)):
            wall.ahead_us = jump_us
            failure = await fails(api.Consume(**CHARGE))
            assert failure.reason == "OVERLOADED"
            # Reads go on, by the time that is right.
            assert (await api.CheckAccess(**CHARGE)).access.available == left
            assert (await statuses()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            wall.ahead_us = 0
            assert (await api.Consume(**CHARGE)).transaction.amount == -2
            assert (await statuses()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        assert [one.amount for one in await api.history("ada")] == [-2, -2, 6]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_two_servers_with_clocks_an_hour_apart_give_the_same_answers(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that last half an hour: by its own wall clock, the other server would call them expired."""
    async with serving(redis.url) as one:
        monkeypatch.setattr(clock, "wall_clock_us", Wall(HOUR_US))
        async with serving(redis.url) as other:
            made = await one.TopUp(user_id="ada", amount=6, lifetime=Duration(seconds=1800))
            for api, left in ((one, 6), (other, 4)):
                account = await api.GetAccount(user_id="ada")
                assert (account.available, account.next_expire_amount) == (left, left)
                charge = await api.Consume(**CHARGE)
                assert charge.transaction.draws[0].grant == made.transaction.transaction_id
                age_s = (
                    charge.transaction.create_time.seconds - made.transaction.create_time.seconds
                )
                assert 0 <= age_s < PATIENCE_S
