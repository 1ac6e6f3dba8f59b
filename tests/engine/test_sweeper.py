"""The sweeper, on a real engine and store."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from entitlements_server.engine import sweeper as module
from entitlements_server.engine.engine import Engine
from entitlements_server.engine.sweeper import Sweeper, pause_after_s
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import TopUp
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.settlement import DELAY_US
from entitlements_server.stores.memory import MemoryStore
from support.ledger import NOW_US, record
from support.waiting import until


class Clock:
    now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def sweeper(
    store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Sweeper]:
    """A sweeper that looks often."""
    monkeypatch.setattr(module, "POLL_S", 0.01)
    engine = Engine(store, lambda: BUILT_IN, clock_us=clock)
    sweeper = Sweeper(store, engine, clock)
    task = asyncio.create_task(sweeper.run())
    yield sweeper
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.close()


async def grants(store: MemoryStore, count: int, lifetime_s: int = 10) -> None:
    commands = [
        TopUp(user_id=f"u-{n}", amount=5, lifetime_us=lifetime_s * SECOND_US) for n in range(count)
    ]
    await record(store, *commands)


async def total(store: MemoryStore) -> int:
    return sum(one.balance for one in (await store.accounts("", 1000)).accounts)


async def test_it_records_what_has_lapsed_and_nothing_before_its_time(
    store: MemoryStore, clock: Clock, sweeper: Sweeper
) -> None:
    await grants(store, 200)
    clock.now_us = NOW_US + 10 * SECOND_US + DELAY_US - 1
    await asyncio.sleep(0.05)
    assert await total(store) == 1000
    clock.now_us += 1
    await until(lambda: not store._state.due or not any(store._state.due.values()))
    assert await total(store) == 0
    await until(lambda: sweeper.lag_s == 0)


async def test_an_account_that_it_cannot_settle_keeps_it_from_no_other(
    store: MemoryStore, clock: Clock, sweeper: Sweeper
) -> None:
    await grants(store, 3)
    # A due time that nothing stands for, as a damaged account would have.
    store._state.due["nobody"] = 1
    clock.now_us = NOW_US + 10 * SECOND_US + DELAY_US
    await until(lambda: not any(due for user, due in store._state.due.items() if user != "nobody"))
    assert await total(store) == 0


async def test_its_lag_is_how_long_the_oldest_has_waited(store: MemoryStore, clock: Clock) -> None:
    engine = Engine(store, lambda: BUILT_IN, clock_us=clock, max_queued=1)
    idle = Sweeper(store, engine, clock)
    assert idle.lag_s == 0
    await grants(store, 1)
    clock.now_us = NOW_US + 10 * SECOND_US + DELAY_US + 7 * SECOND_US
    idle._oldest_us = (await store.account("u-0")).due_us
    assert idle.lag_s == 7
    await engine.close()


def test_it_leaves_nine_tenths_of_the_time_to_others() -> None:
    assert pause_after_s(0.004) == pytest.approx(0.036)
