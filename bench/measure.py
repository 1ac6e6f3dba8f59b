"""A measurement of one workload: in turns with the floor, so that noise hurts both alike."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import psutil
from generators import Generator, Load, run
from servers import Server
from workloads import Workload

MAX_TRIES = 4
"""How often a round is measured at most."""


@dataclass(slots=True)
class Side:
    """What was measured of a workload, or of its floor, over all rounds.

    Attributes:
        rates: Calls per second, of each round.
        latencies_s: Of every call, in seconds.
        codes: How many calls ended with each status code.
        cpu_s: What the server took of the processors, in seconds.
    """

    rates: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def take_in(self, load: Load, cpu_s: float) -> None:
        """Add a round."""
        self.rates.append(load.rate)
        self.latencies_s += load.latencies_s
        self.codes += load.codes
        self.cpu_s += cpu_s

    def percentile_ms(self, share: float) -> float:
        """Tell the latency, in milliseconds, that a share of the calls stayed below."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def summary(self) -> dict[str, Any]:
        """Return the figures for the report."""
        return {
            "rate": median(self.rates),
            "rates": self.rates,
            "p50_ms": self.percentile_ms(0.5),
            "p99_ms": self.percentile_ms(0.99),
            "p999_ms": self.percentile_ms(0.999),
            "cpu_us_per_call": 1e6 * self.cpu_s / len(self.latencies_s),
            "codes": dict(self.codes),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """A workload beside its floor.

    Attributes:
        name: Of the workload.
        stored: How many transactions the ledger had before.
        rps: The rate that was asked for, or 0 for the highest.
        charges: How many charges a call stands for.
        workload: Its figures; see `Side.summary`.
        floor: Those of the floor.
        ratio: Rate of the workload over that of the floor: median of the rounds.
        memory_mib: Resident memory of the server behind the last round.
        peak_memory_mib: The most it ever had.
        stolen: Share of the processors that the hypervisor gave to others meanwhile, 0 to 1.
        repeated: Rounds that were measured again because it was too much.
    """

    name: str
    stored: int
    rps: int
    charges: int
    workload: dict[str, Any]
    floor: dict[str, Any]
    ratio: float
    memory_mib: float
    peak_memory_mib: float
    stolen: float
    repeated: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


async def measure(
    server: Server,
    generator: Generator,
    workload: Workload,
    *,
    stored: int,
    seconds: float,
    rounds: int,
    rps: int = 0,
    calm: float = 1.0,
    advance: Callable[[], None],
) -> Result:
    """Measure a workload and the floor in turns, on one server.

    A round, workload and floor alike, is measured again while more than `calm` of the processors was
    stolen during it, up to MAX_TRIES times; the last one counts whatever was stolen.
    """
    sides = {"floor": Side(), "workload": Side()}
    stolen: list[float] = []
    repeated = 0
    for number in range(rounds):
        turns = [("floor", workload.floor()), ("workload", workload)]
        for last_try in (*[False] * (MAX_TRIES - 1), True):
            begin = psutil.cpu_times()
            loads = []
            # Who comes first alternates, too: it finds the processor cooler.
            for side, one in turns if number % 2 == 0 else reversed(turns):
                before = server.cpu_s()
                load = await run(generator, one, seconds, rps)
                loads.append((side, load, server.cpu_s() - before))
            share = _stolen(begin, psutil.cpu_times())
            if share <= calm or last_try:
                break
            repeated += 1
        stolen.append(share)
        for side, load, cpu_s in loads:
            sides[side].take_in(load, cpu_s)
            advance()
    ratios = [
        mine / least
        for mine, least in zip(sides["workload"].rates, sides["floor"].rates, strict=True)
    ]
    return Result(
        name=workload.name,
        stored=stored,
        rps=rps,
        charges=workload.charges,
        workload=sides["workload"].summary(),
        floor=sides["floor"].summary(),
        ratio=median(ratios),
        memory_mib=server.memory_mib(),
        peak_memory_mib=server.peak_memory_mib(),
        stolen=sum(stolen) / len(stolen),
        repeated=repeated,
    )


def _stolen(before: Any, after: Any) -> float:
    spent = sum(after) - sum(before)
    return (getattr(after, "steal", 0) - getattr(before, "steal", 0)) / spent if spent else 0.0
