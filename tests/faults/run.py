"""`make faults`: every check at full length, with a progress display, ending in a table of figures.

`python -m faults.run --help` lists what can be chosen. The exit status says whether all of it held.
"""

import json
import logging
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.table import Table

from faults import CHECKS
from faults.figures import Report

console = Console(width=max(Console().width, 120))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check that was run: its size in units, and how long it took in seconds."""

    name: str
    size: int
    seconds: float
    report: Report


def main(
    checks: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(CHECKS)}. Default: all.")
    ] = None,
    *,
    scale: Annotated[float, typer.Option(help="Share of the full length, such as 0.1.")] = 1.0,
    size: Annotated[int | None, typer.Option(help="Units of each check, in place of all.")] = None,
    breaking: Annotated[
        str, typer.Option("--break", help="A switch of breaks.py: the check has to fail.")
    ] = "",
    results: Annotated[
        Path, typer.Option(help="Folder of the JSON: one file for each check, replaced.")
    ] = Path("faults-results"),
) -> None:
    """Break the service on purpose."""
    unknown = sorted(set(checks or ()) - set(CHECKS))
    if unknown:
        raise typer.BadParameter(f"there is no check {', '.join(unknown)}")
    # The product's warnings about the faults that are planted here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    outcomes = []
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
    )
    with Progress(*columns, console=console) as progress:
        for name in checks or CHECKS:
            outcome = _run(
                progress, name, size or max(round(CHECKS[name].size * scale), 1), breaking
            )
            _save(results, outcome, breaking)
            outcomes.append(outcome)
    console.print(_table(outcomes))
    for outcome in outcomes:
        for problem in outcome.report.problems[:5]:
            console.print(f"[red]{outcome.name}[/red]: {problem}", markup=True, highlight=False)
    raise typer.Exit(any(outcome.report.problems for outcome in outcomes))


def _run(progress: Progress, name: str, size: int, breaking: str) -> Outcome:
    task = progress.add_task(name, total=size)
    begin = time.monotonic()
    options: dict[str, Any] = {"breaking": breaking} if breaking else {}
    report = CHECKS[name].load()(size, lambda done: progress.advance(task, done), **options)
    progress.stop_task(task)
    return Outcome(name, size, time.monotonic() - begin, report)


def _save(folder: Path, outcome: Outcome, breaking: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{outcome.name}--{breaking}" if breaking else outcome.name
    content = {
        "check": outcome.name,
        "unit": CHECKS[outcome.name].unit,
        "size": outcome.size,
        "full_size": CHECKS[outcome.name].size,
        "seconds": round(outcome.seconds, 1),
        "broken_on_purpose": breaking,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "holds": not outcome.report.problems,
        **outcome.report.as_json(),
    }
    content["problems"] = content["problems"][:20]
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", "utf-8")


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="Faults")
    for title in ("check", "figure", "reached", "to reach"):
        table.add_column(title, justify="right" if title == "reached" else "left")
    for outcome in outcomes:
        holds = "holds" if not outcome.report.problems else "FAILS"
        head = f"{outcome.name}: {holds}, {outcome.seconds:.0f} s"
        for figure in outcome.report.figures:
            value = figure.reached
            shown = (
                value
                if isinstance(value, str)
                else f"{value:,.4g}"
                if isinstance(value, float)
                else f"{value:,}"
            )
            table.add_row(head, figure.name, shown, figure.target)
            head = ""
        table.add_section()
    return table


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
