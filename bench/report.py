"""The results as a table, as JSON and as Markdown."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import Result
from plot import plot
from rich.console import Console
from rich.table import Table
from sides import OFF, SHIPS
from targets import COLUMNS, targets
from workloads import GRPC_AIO

_COLUMNS = (
    "workload",
    "server",
    "by",
    "calls/s",
    "charges/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/call",
    "÷ grpc.aio",
    "peak MiB",
    "failed",
    "stolen",
    "repeated",
)
_WORDS = 3
"""So many of the columns are words; the others are figures."""


def show(console: Console, title: str, results: Sequence[Result]) -> None:
    """Print a table of workloads, a row for each side."""
    _show(console, title, _COLUMNS, _rows(results))


def show_targets(console: Console, facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Print what is to be reached beside what was measured."""
    rows = [target.cells() for target in targets(facts, results)]
    _show(console, "To reach", COLUMNS, rows)


def _show(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number >= _WORDS else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _rows(results: Iterable[Result]) -> Iterator[tuple[str, ...]]:
    for result in results:
        for number, side in enumerate(result.turns):
            yield _row(result, side, first=number == 0)


def _row(result: Result, side: str, *, first: bool) -> tuple[str, ...]:
    workload, rate = result.workload, result.median(side, "rate")
    ratio = result.ratio(side, GRPC_AIO)
    return (
        workload.name,
        side,
        result.generators[side],
        f"{rate:,.0f}",
        f"{rate * workload.charges:,.0f}" if workload.charges > 1 and side in (SHIPS, OFF) else "",
        f"{result.median(side, 'p50_ms'):.1f}",
        f"{result.median(side, 'p99_ms'):.1f}",
        f"{result.median(side, 'cpu_us'):,.0f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{result.peak_memory_mib[side]:,.0f}",
        f"{result.failed(side):,}",
        f"{result.stolen:.0%}" if first else "",
        f"{result.repeated}" if first else "",
    )


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    under = ["---" if number < _WORDS else "---:" for number in range(len(columns))]
    lines = [columns, under, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def save(folder: Path, facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Write results.json, results.md and results.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = facts | {"results": [result.as_json() for result in results]}
    (folder / "results.json").write_text(json.dumps(everything, indent=1) + "\n", "utf-8")
    tables = [_markdown(COLUMNS, (target.cells() for target in targets(facts, results)))]
    for stored in dict.fromkeys(result.stored for result in results):
        rows = _rows(result for result in results if result.stored == stored)
        tables.append(f"{stored:,} transactions stored:\n\n{_markdown(_COLUMNS, rows)}")
    (folder / "results.md").write_text("\n".join(tables), "utf-8")
    plot(folder / "results.svg", results)
