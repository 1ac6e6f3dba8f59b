"""Measures the real server against the floor: an RPC that does nothing, on the same server.

`make bench` runs it as it is; `bench/run.py --help` lists what can be chosen.
"""

import asyncio
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import grpc
import typer
from filling import fill
from generators import generator, run
from measure import Result, measure
from raw_inserts import raw_inserts
from report import save, show, show_targets
from rich.console import Console
from rich.progress import Progress
from servers import serving, warm_up
from targets import targets
from workloads import CONSUME, WORKLOADS, Workload

# A table of figures is of no use when it wraps.
console = Console(width=max(Console().width, 140))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and for how long: see the options of `bench`."""

    workloads: list[str]
    seconds: float
    rounds: int
    connections: int
    paced: bool
    calm: float


def bench(
    *,
    workloads: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(WORKLOADS)}. Default: all.")
    ] = None,
    stored: Annotated[
        list[int] | None, typer.Option(help="Transactions in the ledger before; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="How often workload and floor take turns.")] = 3,
    connections: Annotated[int, typer.Option(help="Connections of the load generator.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="One short round each.")] = False,
    paced: Annotated[bool, typer.Option(help="Also latencies at half the peak rate.")] = True,
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
    """Measure the server and print its figures beside those of the floor."""
    if quick:
        seconds, rounds = 1.0, 1
    chosen = workloads or list(WORKLOADS)
    unknown = set(chosen) - set(WORKLOADS)
    if unknown:
        raise typer.BadParameter(f"There is no workload {', '.join(unknown)}.")
    plan = Plan(chosen, seconds, rounds, connections, paced, calm)
    facts: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "seconds": seconds,
        "rounds": rounds,
        "connections": connections,
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
        if raw and "batch100" in chosen:
            ledger = _ledger(None, Path(temporary) / "raw", 0)
            asyncio.run(_compare_raw(ledger, plan, facts))
    save(results, facts, everything)
    show_targets(console, targets(facts, everything))
    console.print(f"Written: {results}/results.json, results.md and results.svg")


async def _compare_raw(ledger: Path, plan: Plan, facts: dict[str, Any]) -> None:
    """Measure batches of 100 and raw inserts of the same rows in turns."""
    rates: list[tuple[float, float]] = []
    async with serving(f"sqlite://{ledger}") as server:
        load = generator(server.address, plan.connections)
        for number in range(plan.rounds + 1):
            raw = raw_inserts(ledger.with_name(f"raw-{number}.sqlite"), 100)
            batches = await run(load, WORKLOADS["batch100"], plan.seconds)
            rates.append((100 * batches.rate, raw))
    del rates[0]  # it warmed up
    ratio = median(mine / raw for mine, raw in rates)
    facts["batches_and_raw_inserts_per_second"] = rates
    facts["batches_to_raw_inserts"] = ratio
    console.print(
        f"BatchConsume of 100: {median(mine for mine, _ in rates):,.0f} charges per second;"
        f" raw inserts in groups of 100: {median(raw for _, raw in rates):,.0f}; ratio {ratio:.2f}"
    )


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
    """Measure every workload on one server, and add to `facts` and `results`."""
    async with serving(f"sqlite://{ledger}") as server:
        facts["starts"][stored] = {"ready_s": server.ready_s, "memory_mib": server.memory_mib()}
        load = generator(server.address, plan.connections)
        facts["generator"] = load.name
        await warm_up(server)
        with Progress(console=console) as progress:
            paced = plan.paced and "consume" in plan.workloads
            turns = 2 * plan.rounds * (len(plan.workloads) + paced)
            task = progress.add_task("", total=turns)

            async def one(workload: Workload, rps: int = 0) -> Result:
                progress.update(task, description=workload.name)
                result = await measure(
                    server,
                    load,
                    workload,
                    stored=stored,
                    seconds=plan.seconds,
                    rounds=plan.rounds,
                    rps=rps,
                    calm=plan.calm,
                    advance=lambda: progress.advance(task),
                )
                results.append(result)
                return result

            for name in plan.workloads:
                result = await one(WORKLOADS[name])
                if plan.paced and name == "consume":
                    await one(CONSUME, round(result.workload["rate"] / 2))


if __name__ == "__main__":
    typer.run(bench)
