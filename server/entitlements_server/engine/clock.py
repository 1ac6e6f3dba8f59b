"""The time that decisions are made at.

Wall clocks jump, and those of several servers differ. So the wall clock is read once and carried on by the
clock that has counted since the machine was booted, which nobody sets. On a ledger that several servers
share, the store's own clock counts, read every few seconds and carried likewise.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from entitlements_server.errors import CallError, OverloadedError
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.stores.interface import (
    Store,
    StoreConfigurationError,
    StoreUnavailableError,
)

log = structlog.get_logger()

TOLERANCE_US = 5 * SECOND_US
"""How far the wall clock may part from the carried time before writes are refused."""

READ_EVERY_S = 5.0
"""How often the store's clock is read."""

Microseconds = Callable[[], int]
"""Reads a clock, microseconds."""


def wall_clock_us() -> int:
    """Return the time of this machine, microseconds since 1970 UTC. It jumps when it is set."""
    return time.time_ns() // 1000


def boot_clock_us() -> int:
    """Return microseconds that pass evenly, also while the machine sleeps. Nobody can set them."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // 1000


class Clock(Protocol):
    """The time, and whether it can be trusted."""

    def now_us(self) -> int:
        """Return the time, microseconds since 1970 UTC. May be called from any thread."""

    def decision_us(self) -> int:
        """Return the same for writes.

        Raises:
            OverloadedError: The time cannot be trusted, and nothing must be written.
        """

    @property
    def problem(self) -> str:
        """Why the time cannot be trusted, as a sentence; empty: it can."""

    async def run(self) -> None:
        """Keep the time right, until cancelled."""


class GivenClock:
    """A clock that is trusted whatever it says.

    Args:
        read_us: The time, microseconds since 1970 UTC.
    """

    problem = ""

    def __init__(self, read_us: Microseconds) -> None:
        self._read_us = read_us

    def now_us(self) -> int:
        """See Clock."""
        return self._read_us()

    def decision_us(self) -> int:
        """See Clock."""
        return self._read_us()

    async def run(self) -> None:
        """See Clock. There is nothing to do."""


class LocalClock:
    """The wall clock as it was at the start, carried on. For a ledger of this process alone.

    Args:
        wall_us: The wall clock.
        boot_us: Carries it on.
    """

    def __init__(
        self, wall_us: Microseconds = wall_clock_us, boot_us: Microseconds = boot_clock_us
    ) -> None:
        self._wall_us = wall_us
        self._boot_us = boot_us
        self._offset_us = wall_us() - boot_us()

    def now_us(self) -> int:
        """See Clock."""
        return self._boot_us() + self._offset_us

    def decision_us(self) -> int:
        """See Clock."""
        now_us = self.now_us()
        if abs(self._wall_us() - now_us) > TOLERANCE_US:
            raise OverloadedError(
                "The clock of this server was set while it runs, so nothing is written and nothing was"
                " charged: send the request again after the delay, or to another server.",
                retry_delay_s=1.0,
                cause="clock",
            )
        return now_us

    @property
    def problem(self) -> str:
        """See Clock."""
        parted_us = self._wall_us() - self.now_us()
        if abs(parted_us) <= TOLERANCE_US:
            return ""
        way = "ahead" if parted_us > 0 else "back"
        return (
            f"The clock of this machine was set {way} by {abs(parted_us) / SECOND_US:.0f} seconds while the"
            " server runs, so writes are refused: set it right, or restart the server if it is right now."
        )

    async def run(self) -> None:
        """See Clock. There is nothing to do: each decision looks at the wall clock."""


class SharedClock:
    """The clock of a store that several servers share. Create it with `of`.

    Args:
        store: Its `time_us` is read.
        boot_us: Carries it on.
    """

    problem = ""

    def __init__(self, store: Store, boot_us: Microseconds = boot_clock_us) -> None:
        self._store = store
        self._boot_us = boot_us
        self._offset_us = 0

    def now_us(self) -> int:
        """See Clock."""
        return self._boot_us() + self._offset_us

    def decision_us(self) -> int:
        """See Clock."""
        return self.now_us()

    async def read(self) -> None:
        """Read the store's clock.

        Raises:
            StoreUnavailableError: It cannot be read; the time is carried on as it was.
        """
        before_us = self._boot_us()
        time_us = await self._store.time_us()
        assert time_us is not None
        # In the middle of the round trip, as near as can be known.
        self._offset_us = time_us - (before_us + self._boot_us()) // 2

    async def run(self) -> None:
        """See Clock."""
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                await self.read()
            except CallError as error:
                log.info(
                    "The store's clock cannot be read; its time is carried on.", cause=str(error)
                )


async def clock_of(store: Store) -> Clock:
    """Return the clock that decisions on a store are made by.

    Raises:
        StoreConfigurationError: The store's clock cannot be read.
    """
    try:
        if await store.time_us() is None:
            return LocalClock()
        shared = SharedClock(store)
        await shared.read()
    except StoreUnavailableError as error:
        raise StoreConfigurationError(
            f"The clock of the store cannot be read ({error}): check that it can be reached, and on Redis that"
            " the user has the right to TIME."
        ) from error
    return shared


async def warn_of_future(store: Store, clock: Clock) -> None:
    """Warn if the newest record is from the future: a clock ran ahead, or this one is behind."""
    newest_us = await store.newest_time_us()
    ahead_us = newest_us - clock.now_us()
    if ahead_us > TOLERANCE_US:
        log.warning(
            "The newest record of the ledger is from the future: a clock ran ahead when it was written, or"
            " this one is behind. Check the clock before tokens expire by it.",
            seconds_ahead=round(ahead_us / SECOND_US, 3),
        )
