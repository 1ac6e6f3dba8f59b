"""Measures the real server beside references: servers that do nothing, and what a team writes instead.

`make bench` runs it as it is; `bench/run.py --help` lists what can be chosen.
"""

import asyncio
import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from filling import fill
from generators.load import CONNECTIONS
from measure import Result, measure
from raw_inserts import compare_with_raw
from report import save, show, show_targets
from rich.console import Console
from rich.progress import Progress
from sides import OFF, SHIPS, Side, missing, sides, warm_up_all
from workloads import WORKLOADS, Workload

# A table of figures is of no use when it wraps.
console = Console(width=max(Console().width, 160))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and for how long: see the options of `bench`."""

    workloads: list[Workload]
    seconds: float
    rounds: int
    calm: float
    absent: frozenset[str]

    def of(self, workload: Workload, found: Sequence[Side]) -> list[Side]:
        """Choose who takes turns in a workload."""
        return [side for side in found if side.name in (SHIPS, OFF, *workload.beside)]

    @property
    def references(self) -> set[str]:
        """Those that are needed and can be had."""
        return {name for one in self.workloads for name in one.beside} - self.absent


def bench(
    *,
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(WORKLOADS)}. Default: all.")
    ] = None,
    stored: Annotated[
        list[int] | None, typer.Option(help="Transactions in the ledger before; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each turn.", min=1)] = 3.0,
    rounds: Annotated[int, typer.Option(help="How often each takes its turn.", min=1)] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One short round each.")] = False,
    raw: Annotated[bool, typer.Option(help="Also raw inserts of the rows of batches.")] = True,
    calm: Annotated[
        float, typer.Option(help="Share stolen by a hypervisor above which a round is repeated.")
    ] = 1.0,
    folder: Annotated[
        Path | None, typer.Option(help="Where to keep filled ledgers for the next time.")
    ] = None,
    results: Annotated[
        Path, typer.Option(help="Folder for the JSON and the plot.", file_okay=False)
    ] = Path("bench/results"),
) -> None:
    """Measure the server and print its figures beside those of the references."""
    # Ended by a signal, it ends the servers that it has started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if quick:
        seconds, rounds = 1.0, 1
    unknown = set(workloads or ()) - set(WORKLOADS)
    if unknown:
        raise typer.BadParameter(f"There is no workload {', '.join(unknown)}.")
    plan = _plan(workloads or list(WORKLOADS), seconds, rounds, calm)
    facts: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "seconds": seconds,
        "rounds": rounds,
        "connections": CONNECTIONS,
        "calm": calm,
        "starts": {},
    }
    everything: list[Result] = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in stored or [0]:
            begin = len(everything)
            ledger = _ledger(folder, Path(temporary), size)
            asyncio.run(_measure(ledger, size, plan, facts, everything))
            show(console, f"{size:,} transactions stored", everything[begin:])
            save(results, facts, everything)
        if raw and WORKLOADS["batch100"] in plan.workloads:
            ledger = _ledger(None, Path(temporary) / "raw", 0)
            facts |= asyncio.run(
                compare_with_raw(ledger, WORKLOADS["batch100"], seconds, rounds, console.print)
            )
    save(results, facts, everything)
    show_targets(console, facts, everything)
    console.print(f"Written: {results}/results.json, results.md and results.svg")


def _plan(words: Sequence[str], seconds: float, rounds: int, calm: float) -> Plan:
    """Leave out what can't be measured here, and say so."""
    absent = missing()
    for name, why in absent.items():
        console.print(f"[yellow]Not measured: {name}, because {why}.[/yellow]", highlight=False)
    chosen = [WORKLOADS[word] for word in words if WORKLOADS[word].generator not in absent]
    return Plan(chosen, seconds, rounds, calm, frozenset(absent))


def _ledger(folder: Path | None, temporary: Path, stored: int) -> Path:
    """Return a filled ledger file that the measurement may change."""
    path = temporary / f"ledger-{stored}.sqlite"
    kept = folder / path.name if folder else path
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with Progress(console=console) as progress:
            task = progress.add_task(f"filling a ledger with {stored:,}", total=max(stored, 20_000))
            took = asyncio.run(fill(kept.absolute(), stored, lambda n: progress.advance(task, n)))
        console.print(f"Filled in {took:.0f} s.")
    if kept != path:
        shutil.copyfile(kept, path)
    return path


async def _measure(
    ledger: Path, stored: int, plan: Plan, facts: dict[str, Any], results: list[Result]
) -> None:
    """Measure every workload, and add to `facts` and `results`."""
    async with sides(ledger, plan.references) as found:
        facts["starts"][stored] = {
            side.name: {"ready_s": side.server.ready_s, "memory_mib": side.server.memory_mib()}
            for side in found
            if side.name in (SHIPS, OFF)
        }
        await warm_up_all(found)
        with Progress(console=console) as progress:
            turns = plan.rounds * sum(len(plan.of(one, found)) for one in plan.workloads)
            task = progress.add_task("", total=turns)
            for workload in plan.workloads:
                progress.update(task, description=workload.name)
                result = await measure(
                    plan.of(workload, found),
                    workload,
                    stored=stored,
                    seconds=plan.seconds,
                    rounds=plan.rounds,
                    calm=plan.calm,
                    advance=lambda: progress.advance(task),
                )
                results.append(result)


if __name__ == "__main__":
    typer.run(bench)
