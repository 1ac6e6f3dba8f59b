"""Keeps the threads that run Python on one processor, the least busy.

They take turns anyway, as Python has one lock. While they are on several processors, each turn wakes
another processor, which costs more than the turn itself: see docs/performance.md. The threads of gRPC's
core do not need the lock, and stay wherever the system puts them.
"""

import asyncio
import os
import random
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import structlog

log = structlog.get_logger()

INTERVAL_S = 5.0
"""Seconds between two looks at how busy the processors are."""

LESS_BUSY = 0.25
"""The share of its time by which another processor must be less busy than this one."""

_TICKS_S = 1 / os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # of a line of /proc/stat: idle, and waiting for a disk


class Machine(Protocol):
    """The processors, and this process on them."""

    def allowed(self) -> Collection[int]:
        """Return the processors that this process may use."""

    def current(self) -> int:
        """Return the processor on which the main thread runs, or ran last."""

    def busy_s(self) -> Mapping[int, float]:
        """Return for how long each processor has been busy so far, in seconds."""

    def own_s(self) -> float:
        """Return for how long the threads that run Python have run so far, in seconds."""

    def place(self, processors: Collection[int]) -> None:
        """Let the threads that run Python use only these processors, and all others all."""


class LinuxMachine:
    """See Machine. Any method may raise OSError."""

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0)

    def allowed(self) -> Collection[int]:
        """See Machine."""
        return self._allowed

    def current(self) -> int:
        """See Machine."""
        main = threading.main_thread().native_id
        after_name = Path(f"/proc/self/task/{main}/stat").read_text().rpartition(")")[2]
        return int(after_name.split()[36])

    def busy_s(self) -> Mapping[int, float]:
        """See Machine."""
        busy: dict[int, float] = {}
        for line in Path("/proc/stat").read_text().splitlines():
            name, *values = line.split()
            if name.startswith("cpu") and name != "cpu":
                # The last two are part of the first two.
                ticks = [int(value) for value in values[:8]]
                idle = sum(ticks[index] for index in _IDLE)
                busy[int(name[3:])] = (sum(ticks) - idle) * _TICKS_S
        return busy

    def own_s(self) -> float:
        """See Machine."""
        return sum(
            int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) / 1e9
            for thread in _python_threads()
        )

    def place(self, processors: Collection[int]) -> None:
        """See Machine."""
        mine = _python_threads()
        for entry in os.scandir("/proc/self/task"):
            thread = int(entry.name)
            wanted = processors if thread in mine else self._allowed
            try:
                os.sched_setaffinity(thread, wanted)
            except ProcessLookupError:
                continue  # It has ended.


def _python_threads() -> set[int]:
    return {one.native_id for one in threading.enumerate() if one.native_id is not None}


class Placement:
    """Chooses the processor, and moves to another one where it would be less disturbed.

    Args:
        machine: The processors.
        worker: Number of this process among those that serve one address: each begins on another
            processor. None: it serves alone, and begins where the system has put it.
        chance: Returns a number from 0 to 1. Half of the time a move waits for the next look, so that two
            servers that disturb each other do not both move.
    """

    def __init__(
        self,
        machine: Machine,
        worker: int | None = None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._machine = machine
        self._chance = chance
        allowed = sorted(machine.allowed())
        self._processor = machine.current() if worker is None else allowed[worker % len(allowed)]
        self._busy_s, self._own_s = machine.busy_s(), machine.own_s()
        machine.place({self._processor})

    def look(self, interval_s: float) -> None:
        """Move if the processor was busy with other programs, then place threads that are new.

        Args:
            interval_s: Seconds since the last look, above 0.
        """
        busy_s, own_s = self._machine.busy_s(), self._machine.own_s()
        shares = {
            processor: (busy_s.get(processor, 0) - self._busy_s.get(processor, 0)) / interval_s
            for processor in self._machine.allowed()
        }
        shares[self._processor] -= (own_s - self._own_s) / interval_s
        self._busy_s, self._own_s = busy_s, own_s
        least = min(shares, key=lambda processor: shares[processor])
        if shares[least] + LESS_BUSY < shares[self._processor] and self._chance() < 0.5:  # noqa: PLR2004
            log.debug("The threads that run Python move to another processor.", processor=least)
            self._processor = least
        self._machine.place({self._processor})

    def end(self) -> None:
        """Let the threads use all processors again."""
        self._machine.place(self._machine.allowed())


async def keep_on_one_processor(worker: int | None = None) -> None:
    """Keep the threads on one processor until this is cancelled.

    Returns at once where the system cannot do that, or has one processor only.

    Args:
        worker: See Placement.
    """
    loop = asyncio.get_running_loop()
    try:
        if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) == 1:
            return
        placement = Placement(LinuxMachine(), worker)
        try:
            while True:
                started_s = loop.time()
                await asyncio.sleep(INTERVAL_S)
                placement.look(loop.time() - started_s)
        finally:
            placement.end()
    except OSError as error:
        # The server is as right without it, only slower.
        log.info(
            "Threads are not kept on one processor: the system does not allow it.", cause=str(error)
        )
