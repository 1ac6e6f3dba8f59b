"""The time that decisions are made at, on clocks that the test sets."""

import pytest
from structlog.testing import capture_logs

from entitlements_server.engine.clock import LocalClock, SharedClock, clock_of, warn_of_future
from entitlements_server.engine.engine import Engine
from entitlements_server.errors import OverloadedError
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import TopUp
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.stores.interface import (
    Failed,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.memory import MemoryStore
from support.ledger import NOW_US, record

YEAR_US = 366 * 86_400 * SECOND_US


class Clocks:
    """A wall clock and a boot clock."""

    def __init__(self) -> None:
        self.wall_us = NOW_US
        self.boot_us = 5 * SECOND_US

    def pass_s(self, seconds: int) -> None:
        self.wall_us += seconds * SECOND_US
        self.boot_us += seconds * SECOND_US

    def local(self) -> LocalClock:
        return LocalClock(lambda: self.wall_us, lambda: self.boot_us)


class SharedStore(MemoryStore):
    """A store with a clock of its own."""

    clock_us = NOW_US

    async def time_us(self) -> int | None:
        return self.clock_us


def test_time_goes_on_as_it_passes() -> None:
    clocks = Clocks()
    clock = clocks.local()
    clocks.pass_s(100)
    assert clock.now_us() == clock.decision_us() == NOW_US + 100 * SECOND_US
    assert clock.problem == ""


@pytest.mark.parametrize("jump_us", [YEAR_US, -YEAR_US, 6 * SECOND_US, -6 * SECOND_US])
def test_a_wall_clock_that_jumps_moves_no_time_and_stops_decisions_until_it_agrees(
    jump_us: int,
) -> None:
    clocks = Clocks()
    clock = clocks.local()
    clocks.wall_us += jump_us
    assert clock.now_us() == NOW_US
    assert "was set ahead" if jump_us > 0 else "was set back" in clock.problem
    with pytest.raises(OverloadedError) as caught:
        clock.decision_us()
    assert caught.value.shed_cause == "clock"
    clocks.wall_us -= jump_us
    assert clock.decision_us() == NOW_US
    assert clock.problem == ""


def test_a_wall_clock_that_is_corrected_a_little_stops_nothing() -> None:
    clocks = Clocks()
    clock = clocks.local()
    clocks.wall_us += 4 * SECOND_US
    assert clock.decision_us() == NOW_US


async def test_a_year_ahead_and_back_writes_nothing_in_between_and_expires_nothing() -> None:
    clocks = Clocks()
    clock = clocks.local()
    store = MemoryStore()
    engine = Engine(store, lambda: BUILT_IN, clock_us=clock.decision_us)
    grant = TopUp(user_id="ada", amount=5, lifetime_us=3600 * SECOND_US)
    await engine.submit([grant])
    clocks.wall_us += YEAR_US
    [failed] = await refused(engine, grant)
    assert isinstance(failed, OverloadedError)
    clocks.wall_us -= YEAR_US
    await engine.submit([TopUp(user_id="ada", amount=1)])
    account = await store.account("ada")
    assert (account.balance, account.transaction_count) == (6, 2)
    assert [one.amount for one in account.grants] == [5]
    await engine.close()


async def refused(engine: Engine, command: TopUp) -> list[Exception]:
    try:
        results = await engine.submit([command])
    except OverloadedError as error:
        return [error]
    return [one.error for one in results if isinstance(one, Failed)]


async def test_the_clock_of_a_shared_store_counts_whatever_the_wall_clock_says() -> None:
    store, clocks = SharedStore(), Clocks()
    clock = SharedClock(store, lambda: clocks.boot_us)
    await clock.read()
    assert clock.decision_us() == NOW_US
    clocks.pass_s(10)
    clocks.wall_us += YEAR_US
    assert clock.decision_us() == NOW_US + 10 * SECOND_US
    store.clock_us = NOW_US + 11 * SECOND_US
    await clock.read()
    assert clock.decision_us() == NOW_US + 11 * SECOND_US


async def test_a_store_of_this_process_alone_goes_by_the_clock_of_the_machine() -> None:
    assert isinstance(await clock_of(MemoryStore()), LocalClock)
    assert isinstance(await clock_of(SharedStore()), SharedClock)


async def test_a_store_whose_clock_cannot_be_read_is_not_served() -> None:
    class Silent(SharedStore):
        async def time_us(self) -> int | None:
            raise StoreUnavailableError("no right to TIME")

    with pytest.raises(StoreConfigurationError, match="the right to TIME"):
        await clock_of(Silent())


async def test_a_newest_record_of_the_future_is_a_warning() -> None:
    store = MemoryStore()
    with capture_logs() as logs:
        await warn_of_future(store, Clocks().local())
        await record(store, TopUp(user_id="ada", amount=1), now_us=NOW_US + 4 * SECOND_US)
        await warn_of_future(store, Clocks().local())
        assert logs == []
        await record(store, TopUp(user_id="bob", amount=1), now_us=NOW_US + YEAR_US)
        await warn_of_future(store, Clocks().local())
    assert [one["log_level"] for one in logs] == ["warning"]
