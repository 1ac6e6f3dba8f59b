"""A measurement of one workload: everyone in turns, so that noise hurts all alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil
from generators import Generator, Load, generator, run
from generators.load import Calls
from sides import Side
from workloads import Workload

MAX_TRIES = 4
"""How often a round is measured at most."""

_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Turn:
    """What was seen of one side in one round.

    Attributes:
        rate: Calls per second.
        p50_ms: Half of the calls took no longer.
        p99_ms: Likewise 99%.
        p999_ms: Likewise 99.9%.
        cpu_us: What the server took of the processors for each call, in microseconds.
        calls: How many there were.
        failed: How many of them ended as they should not.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_us: float
    calls: int
    failed: int

    @classmethod
    def of(cls, load: Load, cpu_s: float, codes: Iterable[str]) -> "Turn":
        """Take it from what the generator saw."""
        return cls(
            rate=load.rate,
            p50_ms=load.percentile_ms(0.5),
            p99_ms=load.percentile_ms(0.99),
            p999_ms=load.percentile_ms(0.999),
            cpu_us=1e6 * cpu_s / load.calls,
            calls=load.calls,
            failed=load.calls - sum(load.codes[code] for code in codes),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A workload, measured.

    Attributes:
        workload: What was sent.
        stored: How many transactions the ledgers had before.
        turns: Of each side, by its name, one for each round.
        generators: The generator of each side.
        peak_memory_mib: The most that each side's process ever had.
        stolen: Share of the processors that the hypervisor gave to others meanwhile, 0 to 1.
        repeated: Rounds that were measured again because it was too much.
    """

    workload: Workload
    stored: int
    turns: dict[str, list[Turn]]
    generators: dict[str, str]
    peak_memory_mib: dict[str, float]
    stolen: float
    repeated: int

    def median(self, side: str, figure: str) -> float:
        """Return the median over the rounds of a figure, named as in `Turn`."""
        return median(self._rounds(side, figure))

    def ratio(self, side: str, other: str, figure: str = "rate") -> float | None:
        """Return the median of the rounds' ratios, or None where one of the two is missing."""
        if side not in self.turns or other not in self.turns:
            return None
        pairs = zip(self._rounds(side, figure), self._rounds(other, figure), strict=True)
        return median(mine / its for mine, its in pairs)

    def _rounds(self, side: str, figure: str) -> list[float]:
        return [getattr(turn, figure) for turn in self.turns[side]]

    def failed(self, side: str) -> int:
        """Return how many calls ended as they should not."""
        return sum(turn.failed for turn in self.turns[side])

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "name": self.workload.name,
            "stored": self.stored,
            "rps": self.workload.rps,
            "charges": self.workload.charges,
            "stolen": self.stolen,
            "repeated": self.repeated,
            "sides": {
                name: {
                    "generator": self.generators[name],
                    "rate": self.median(name, "rate"),
                    "peak_memory_mib": self.peak_memory_mib[name],
                    "turns": [asdict(turn) for turn in turns],
                }
                for name, turns in self.turns.items()
            },
        }


async def measure(
    sides: Sequence[Side],
    workload: Workload,
    *,
    stored: int,
    seconds: float,
    rounds: int,
    calm: float = 1.0,
    advance: Callable[[], None],
) -> Result:
    """Measure everyone in turns, after a short round that doesn't count.

    A round is measured again, for everyone, while more than `calm` of the processors was stolen
    during it, up to MAX_TRIES times; the last one counts whatever was stolen.
    """
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    stolen: list[float] = []
    repeated = 0
    made = workload.make(_WARM_UP_S)
    for side in sides:
        await _turn(side, workload, made, _WARM_UP_S)
    for number in range(rounds):
        for last_try in (*[False] * (MAX_TRIES - 1), True):
            made = workload.make(seconds)
            begin = psutil.cpu_times()
            seen = {}
            # Who comes first alternates, too: it finds the processor cooler.
            for side in sides if number % 2 == 0 else reversed(sides):
                seen[side.name] = await _turn(side, workload, made, seconds)
            share = _stolen(begin, psutil.cpu_times())
            if share <= calm or last_try:
                break
            repeated += 1
        stolen.append(share)
        for name, turn in seen.items():
            turns[name].append(turn)
            advance()
    return Result(
        workload=workload,
        stored=stored,
        turns=turns,
        generators={side.name: _sender(side, workload).name for side in sides},
        peak_memory_mib={side.name: side.server.peak_memory_mib() for side in sides},
        stolen=sum(stolen) / len(stolen),
        repeated=repeated,
    )


async def _turn(side: Side, workload: Workload, made: Sequence[Calls], seconds: float) -> Turn:
    """Measure one side once, and let it come to rest, so that it takes nothing from the next."""
    sent = workload.for_empty(made) if side.empty else made
    before_s = side.server.cpu_s()
    load = await run(_sender(side, workload), side.target, sent, seconds, workload.rps)
    cpu_s = side.server.cpu_s() - before_s
    await side.server.quiet()
    codes = {"OK"} if side.empty or side.generator else workload.codes
    return Turn.of(load, cpu_s, codes)


def _sender(side: Side, workload: Workload) -> Generator:
    name = side.generator or workload.generator
    found = generator(name)
    assert found is not None, f"{name} is missing, which `sides.missing` says before."
    return found


def _stolen(before: Any, after: Any) -> float:
    spent = sum(after) - sum(before)
    return (getattr(after, "steal", 0) - getattr(before, "steal", 0)) / spent if spent else 0.0
