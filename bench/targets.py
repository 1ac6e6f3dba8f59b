"""What is to be reached, beside what was measured: ratios, so that the machine cancels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from measure import Result
from sides import OFF, SHIPS
from workloads import (
    ACCESS,
    BATCHES,
    COMPLETION_QUEUE,
    CONSUME,
    FASTAPI,
    GRPC_AIO,
    HOT_USER,
    KEYLESS,
    PACE,
    PACED,
    SPREAD,
    Workload,
)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to reach.

    Attributes:
        what: In words.
        bound: What it has to be at least, or at most.
        measured: By the name of the side; None is what wasn't measured.
        at_most: Which of the two `bound` is.
        unit: After the figures.
        note: What the ratio is made of.
    """

    what: str
    bound: float
    measured: dict[str, float | None]
    at_most: bool = False
    unit: str = ""
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        target = f"at {'most' if self.at_most else 'least'} {self.bound:g}{self.unit}"
        shown = (self._shown(self.measured.get(side)) for side in (SHIPS, OFF))
        return (self.what, target, *shown, self._verdict(), self.note)

    def _shown(self, figure: float | None) -> str:
        return "" if figure is None else f"{figure:.2f}{self.unit}"

    def _verdict(self) -> str:
        figure = self.measured.get(SHIPS, self.measured.get(OFF))
        if figure is None:
            return "not measured"
        holds = figure <= self.bound if self.at_most else figure >= self.bound
        return "yes" if holds else "no"


_RATE, _CPU, _P99 = ("rate", "/s"), ("cpu_us", " µs"), ("p99_ms", " ms")
"""Figures of a `Turn`, and their units."""

COLUMNS = ("", "target", SHIPS, OFF, "reached", "made of")


def targets(facts: dict[str, Any], results: Sequence[Result]) -> list[Target]:
    """Return all targets whose measurements there are."""
    found = {(result.workload.name, result.stored): result for result in results}
    first = results[0].stored if results else 0

    def of(workload: Workload) -> Result | None:
        return found.get((workload.name, first))

    return [
        *_beside_references(of(CONSUME), of(ACCESS), of(KEYLESS), of(PACED)),
        *_within(of(HOT_USER), [one for one in results if one.workload is SPREAD]),
        *_by_itself(facts),
    ]


def _beside_references(
    consume: Result | None, access: Result | None, keyless: Result | None, paced: Result | None
) -> list[Target]:
    found = [
        _ratio("Consume ÷ empty grpc.aio", 1.6, consume, _RATE, GRPC_AIO),
        _ratio("Consume ÷ FastAPI + PostgreSQL", 3, consume, _RATE, FASTAPI),
        _ratio("CheckAccess ÷ empty grpc.aio", 2, access, _RATE, GRPC_AIO),
        _ratio("Consume, no keys ÷ empty completion queue", 0.33, keyless, _RATE, COMPLETION_QUEUE),
        _ratio(f"Consume's p99 at {PACE:,}/s ÷ empty grpc.aio's", 1.25, paced, _P99, GRPC_AIO),
        _ratio("CPU of a Consume ÷ empty grpc.aio's", 0.7, consume, _CPU, GRPC_AIO),
        _ratio("CPU of a Consume, no keys ÷ empty grpc.aio's", 0.7, keyless, _CPU, GRPC_AIO),
    ]
    return [target for target in found if target is not None]


def _ratio(
    what: str, bound: float, result: Result | None, figure: tuple[str, str], other: str
) -> Target | None:
    if result is None:
        return None
    name, unit = figure
    its = result.median(other, name) if other in result.turns else None
    mine = result.median(SHIPS, name)
    failed = sum(result.failed(side) for side in result.turns)
    by = ", ".join(
        dict.fromkeys(result.generators[side] for side in (SHIPS, other) if side in result.turns)
    )
    note = f"{_short(mine)}{unit} ÷ {_short(its)}{unit}, {by}" if its is not None else ""
    return Target(
        what,
        bound,
        {side: result.ratio(side, other, name) for side in (SHIPS, OFF)},
        at_most=figure is not _RATE,
        note=f"{note}; {failed} CALLS FAILED" if failed else note,
    )


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"


def _within(hot: Result | None, spread: Sequence[Result]) -> list[Target]:
    """Compare the service with itself, each by its ratio to the empty server of its own rounds."""
    found = []
    if hot is not None and spread:
        found.append(Target("one hot user ÷ 10,000 users", 0.95, _quotients(hot, spread[0])))
    for result in spread[1:]:
        what = f"Consume at {result.stored:,} transactions ÷ at {spread[0].stored:,}"
        found.append(Target(what, 0.9, _quotients(result, spread[0])))
    return found


def _quotients(mine: Result, other: Result) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for side in (SHIPS, OFF):
        one, two = mine.ratio(side, GRPC_AIO), other.ratio(side, GRPC_AIO)
        found[side] = one / two if one is not None and two is not None else None
    return found


def _by_itself(facts: dict[str, Any]) -> list[Target]:
    found = []
    if "batches_to_raw_inserts" in facts:
        what = f"{BATCHES[100].name} ÷ raw inserts in groups of 100"
        found.append(Target(what, 0.6, {OFF: facts["batches_to_raw_inserts"]}))
    starts: dict[int, dict[str, dict[str, float]]] = facts["starts"]
    for stored, start in starts.items():
        ready: dict[str, float | None] = {side: one["ready_s"] for side, one in start.items()}
        what = f"ready after start, {stored:,} stored"
        found.append(Target(what, 1, ready, at_most=True, unit=" s"))
    empty = next(iter(starts.values()), {})
    for stored, start in list(starts.items())[1:]:
        grown: dict[str, float | None] = {
            side: one["memory_mib"] / empty[side]["memory_mib"] for side, one in start.items()
        }
        what = f"memory after start, {stored:,} stored ÷ {next(iter(starts)):,}"
        found.append(Target(what, 1.05, grown, at_most=True))
    return found
