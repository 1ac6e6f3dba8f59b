"""The results as a table, as JSON and as a plot."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measure import Result
from rich.console import Console
from rich.table import Table
from targets import Row, targets

_COLUMNS = (
    "workload",
    "calls/s",
    "charges/s",
    "p50 ms",
    "p99 ms",
    "CPU µs/call",
    "÷ floor",
    "floor calls/s",
    "floor p99 ms",
    "floor CPU µs",
    "peak MiB",
    "stolen",
    "repeated",
)


def show(console: Console, title: str, results: Sequence[Result]) -> None:
    """Print a table of workloads, each beside its floor."""
    _show(console, title, _COLUMNS, map(_cells, results))


def show_targets(console: Console, rows: Sequence[Row]) -> None:
    """Print what is to be reached beside what was measured."""
    _show(console, "To reach", ("", "target", "measured"), rows)


def _show(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _cells(result: Result) -> tuple[str, ...]:
    mine, floor = result.workload, result.floor
    return (
        result.name + (f" at {result.rps}/s" if result.rps else ""),
        f"{mine['rate']:,.0f}",
        f"{mine['rate'] * result.charges:,.0f}" if result.charges > 1 else "",
        f"{mine['p50_ms']:.1f}",
        f"{mine['p99_ms']:.1f}",
        f"{mine['cpu_us_per_call']:,.0f}",
        f"{result.ratio:.2f}",
        f"{floor['rate']:,.0f}",
        f"{floor['p99_ms']:.1f}",
        f"{floor['cpu_us_per_call']:,.0f}",
        f"{result.peak_memory_mib:,.0f}",
        f"{result.stolen:.0%}",
        f"{result.repeated}",
    )


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def save(folder: Path, facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Write results.json, results.md and results.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = facts | {"results": [result.as_json() for result in results]}
    (folder / "results.json").write_text(json.dumps(everything, indent=1) + "\n", "utf-8")
    tables = [_markdown(("", "target", "measured"), targets(facts, results))]
    for stored in dict.fromkeys(result.stored for result in results):
        rows = (_cells(result) for result in results if result.stored == stored)
        tables.append(f"{stored:,} transactions stored:\n\n{_markdown(_COLUMNS, rows)}")
    (folder / "results.md").write_text("\n".join(tables), "utf-8")
    peaks = [result for result in results if not result.rps and result.charges == 1]
    if peaks:
        _plot(folder / "results.svg", peaks)


def _plot(path: Path, peaks: Sequence[Result]) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # slow to import

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "entitlements"
    from matplotlib import pyplot as plt  # noqa: PLC0415  # behind the choice of backend

    names = list(dict.fromkeys(result.name for result in peaks))
    sizes = list(dict.fromkeys(result.stored for result in peaks))
    figure, axes = plt.subplots(figsize=(9, 0.6 * len(names) + 1.6), layout="constrained")
    height = 0.8 / max(len(sizes), 1)
    for number, stored in enumerate(sizes):
        for result in peaks:
            if result.stored == stored:
                place = names.index(result.name) + (number - (len(sizes) - 1) / 2) * height
                label = (
                    f"{stored:,} stored" if result is peaks[0] or result.name == names[0] else None
                )
                bar = axes.barh(place, result.ratio, height * 0.9, color=f"C{number}", label=label)
                axes.bar_label(bar, fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("calls per second ÷ those of an RPC that does nothing (Health/Check)")
    axes.set_xlim(0, 1.15)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
