"""What is sent, where to, and what was seen: the words that all generators share."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONNECTIONS = 8
"""Of a generator, shared by the calls in flight."""

OK = "OK"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is called.

    Attributes:
        address: Where, as HOST:PORT.
        token: The bearer token of each call, or empty for none.
        connections: How many the calls in flight share, where they share any.
    """

    address: str
    token: str = ""
    connections: int = CONNECTIONS

    @property
    def authorization(self) -> str:
        """The value of the header of that name."""
        return f"Bearer {self.token}"


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one method.

    Attributes:
        method: Its full name, as `package.Service/Method`.
        messages: Serialized requests, sent one after another, and then from the start again.
        in_flight: How many wait for their answers at any time.
        once: Whether sending a message again would be something else, such as the replay of a charge.
    """

    method: str
    messages: Sequence[bytes]
    in_flight: int
    once: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What a generator saw.

    Attributes:
        rate: Calls per second.
        latencies_s: Of each call, in seconds, in no order.
        codes: How many calls ended with each status.
    """

    rate: float
    latencies_s: list[float]
    codes: Counter[str]

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return self.codes.total()

    def percentile_ms(self, share: float) -> float:
        """Return the latency, in milliseconds, that a share of the calls stayed below."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    @classmethod
    def sum(cls, loads: Iterable["Load"]) -> "Load":
        """Put together what ran at the same time."""
        loads = list(loads)
        return cls(
            sum(load.rate for load in loads),
            [one for load in loads for one in load.latencies_s],
            sum((load.codes for load in loads), Counter()),
        )


class Generator(Protocol):
    """Sends calls of one method."""

    name: str

    async def send(
        self, target: Target, calls: Calls, seconds: float, rps: int, folder: Path
    ) -> Load:
        """Send for so many seconds; `folder` is an empty one for files.

        Args:
            target: Who is called.
            calls: What is sent.
            seconds: For how long.
            rps: Calls per second, or 0 for as many as are answered.
            folder: Removed afterwards.

        Raises:
            SystemExit: The program failed; it says which.
        """


async def output_of(command: Sequence[str]) -> bytes:
    """Run a program to its end; returns its standard output.

    Raises:
        SystemExit: It failed.
    """
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        # Its arguments hold a token.
        raise SystemExit(f"{command[0]} failed with status {process.returncode}; see what it said.")
    return output
