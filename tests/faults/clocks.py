"""Clocks that leap, so that hours and days pass in a run: tokens expire and access windows end.

An answer that records nothing was decided at some moment between its request and its reply. A clock knows
which times it showed in between.
"""

import mmap
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

SECOND_US = 1_000_000
NEVER_US = 2**63

LEAPS_S = (5, 40, 70, 600, 3_700, 90_000)
"""How far a clock leaps: over lifetimes and windows of seconds, hours and a day, and less than each."""


class Span(NamedTuple):
    """Between these times, both included, microseconds since 1970 UTC."""

    earliest_us: int
    latest_us: int


class Clock(Protocol):
    """What a record needs of a clock."""

    def now_us(self) -> int:
        """Read it: microseconds since 1970 UTC."""

    def near_us(self) -> int:
        """About what it shows, without moving it."""

    def mark(self) -> int:
        """Note a moment."""

    def span(self, since: int, until: int | None) -> Span:
        """The times at which something can have been decided between two marks; None: it is open."""


class LeapingClock:
    """A clock in this process: each reading moves it, now and then far, and sometimes a little back.

    Args:
        random: Decides how far.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._readings = [1_700_000_000 * SECOND_US]

    def now_us(self) -> int:
        """See Clock."""
        random = self._random
        step_us = random.choice((1, 10, 1000, -5000))
        if random.random() < 0.03:
            step_us = random.choice(LEAPS_S) * SECOND_US
        self._readings.append(self._readings[-1] + step_us)
        return self._readings[-1]

    def near_us(self) -> int:
        """See Clock."""
        return self._readings[-1]

    def mark(self) -> int:
        """See Clock."""
        return len(self._readings)

    def span(self, since: int, until: int | None) -> Span:
        """See Clock."""
        shown: Sequence[int] = self._readings[since:until] or self._readings[-1:]
        return Span(min(shown), max(shown) if until is not None else NEVER_US)


class SharedOffset:
    """Microseconds that a server's clock is ahead of the true one, in a file that both processes map.

    Args:
        path: The file; made if it is not there.
    """

    _FORMAT = "<q"

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(struct.calcsize(self._FORMAT)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @property
    def us(self) -> int:
        """What it is now."""
        (found,) = struct.unpack(self._FORMAT, self._memory[:])
        return int(found)

    def leap(self, seconds: int) -> None:
        """Add to it."""
        self._memory[:] = struct.pack(self._FORMAT, self.us + seconds * SECOND_US)


class ServerClock:
    """The clock of a server on this machine that leaps when this process says so.

    Args:
        offset: How far it has leapt.
        tolerance_s: How far the server's may be from the true one besides, seconds.
    """

    def __init__(self, offset: SharedOffset, tolerance_s: float) -> None:
        self._offset = offset
        self._tolerance_us = int(tolerance_s * SECOND_US)

    def now_us(self) -> int:
        """See Clock."""
        return time.time_ns() // 1000 + self._offset.us

    def near_us(self) -> int:
        """See Clock."""
        return self.now_us()

    def mark(self) -> int:
        """See Clock."""
        return self.now_us()

    def span(self, since: int, until: int | None) -> Span:
        """See Clock."""
        latest_us = NEVER_US if until is None else until + self._tolerance_us
        return Span(since - self._tolerance_us, latest_us)
