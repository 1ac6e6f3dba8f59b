"""What is to be reached, beside what was measured. Ratios of ratios, so that noise cancels out."""

from collections.abc import Sequence
from typing import Any

from measure import Result
from workloads import CHECK_ACCESS, CONSUME, HOT_USER, Workload

Row = tuple[str, str, str]
"""What, the target, and what was measured."""


def targets(facts: dict[str, Any], results: Sequence[Result]) -> list[Row]:
    """Return those targets whose measurements there are."""
    peaks = {(result.name, result.stored): result.ratio for result in results if not result.rps}
    rows: list[Row] = []

    def add(what: str, target: str, measured: float | None, unit: str = "") -> None:
        if measured is not None:
            rows.append((what, target, f"{measured:.2f}{unit}"))

    def peak(workload: Workload, stored: int = 0) -> float | None:
        return peaks.get((workload.name, stored))

    add("Consume ÷ floor", "at least 0.80", peak(CONSUME))
    add("CheckAccess ÷ floor", "at least 0.95", peak(CHECK_ACCESS))
    add("one hot user ÷ 10,000 users", "at least 0.95", _quotient(peak(HOT_USER), peak(CONSUME)))
    for stored in dict.fromkeys(result.stored for result in results if result.stored):
        what = f"Consume at {stored:,} transactions ÷ at none"
        add(what, "at least 0.9", _quotient(peak(CONSUME, stored), peak(CONSUME)))
    for result in results:
        if result.rps:
            what = f"Consume p99 ÷ the floor's, at {result.rps}/s, {result.stored:,} stored"
            add(what, "at most 2", result.workload["p99_ms"] / result.floor["p99_ms"])
    add("BatchConsume of 100 ÷ raw inserts", "at least 0.6", facts.get("batches_to_raw_inserts"))
    for stored, start in facts["starts"].items():
        add(f"ready after start, {stored:,} stored", "below 1 s", start["ready_s"], " s")
        add(f"memory after start, {stored:,} stored", "as when empty", start["memory_mib"], " MiB")
    return rows


def _quotient(mine: float | None, other: float | None) -> float | None:
    return mine / other if mine is not None and other is not None else None
