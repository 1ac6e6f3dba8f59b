"""How the server's memory grows with the charges that it has made.

    bench/memory.py --charges 10000000

drives a fresh server and prints its resident memory after each tenth of the charges. They are plain Consume calls;
`--batch 100` makes BatchConsume calls, which takes less time.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from filling import fill
from generators import generator, run
from generators.load import Target
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from servers import serving
from workloads import CONSUME, Workload, batch_workload

_PARTS = 10
_CHARGES_IN_FLIGHT = 3000


def memory(
    *,
    charges: Annotated[int, typer.Option(help="How many charges to make.", min=_PARTS)] = 10**7,
    batch: Annotated[int, typer.Option(help="Charges in each call.", min=1, max=1000)] = 1,
    seconds: Annotated[float, typer.Option(help="Length of each burst of calls.")] = 20.0,
    results: Annotated[Path, typer.Option(help="Where the figures go as JSON.")] = Path(
        "bench/results/memory.json"
    ),
) -> None:
    """Make charges, and tell the server's memory after each tenth of them."""
    workload = batch_workload(batch, max(_CHARGES_IN_FLIGHT // batch, 1)) if batch > 1 else CONSUME
    console = Console()
    with Progress(console=console) as progress:
        marks = asyncio.run(_memory(charges, workload, seconds, progress))
    table = Table("charges", "MiB", "beside the first tenth", title=workload.name)
    after_first = marks[1][1]
    for made, mib in marks:
        table.add_row(f"{made:,}", f"{mib:.1f}", f"{mib / after_first:.3f}")
    console.print(table)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps({"workload": workload.name, "charges_and_mib": marks}))


async def _memory(
    charges: int, workload: Workload, seconds: float, progress: Progress
) -> list[tuple[int, float]]:
    """Return how many charges were made when the memory was looked at, and the MiB."""
    task = progress.add_task(workload.name, total=charges)
    made = tenths = 0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite"
        await fill(ledger, 0, lambda _: None)
        async with serving(f"sqlite://{ledger}") as server:
            marks = [(0, server.memory_mib())]
            sender = generator(workload.generator)
            assert sender is not None
            target = Target(server.address)
            while made < charges:
                burst = await run(sender, target, workload.make(seconds), seconds)
                if set(burst.codes) != {"OK"}:
                    raise SystemExit(f"Not every charge was made: {dict(burst.codes)}.")
                made += burst.calls * workload.charges
                progress.update(task, completed=made)
                if made * _PARTS // charges > tenths:
                    tenths = made * _PARTS // charges
                    marks.append((made, server.memory_mib()))
                    progress.console.print(f"{made:>12,} charges: {marks[-1][1]:.1f} MiB")
    return marks


if __name__ == "__main__":
    typer.run(memory)
