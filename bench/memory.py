"""How the server's memory grows with the charges that it has made.

    bench/memory.py --charges 10000000 --batch 1000

drives a fresh server and tells its memory after each tenth of the charges. `--batch 1` makes plain
Consume calls.
"""

import asyncio
import itertools
import tempfile
from pathlib import Path
from typing import Annotated

import grpc
import typer
from filling import fill
from servers import Server, serving
from workloads import SERVICE, Stream, batches, consumes

_PARTS = 10
_COMMANDS_IN_FLIGHT = 3000


def memory(
    charges: Annotated[int, typer.Option(help="How many charges to make.")] = 10_000_000,
    batch: Annotated[int, typer.Option(help="Charges in each call.")] = 1000,
) -> None:
    """Make charges, and tell the server's memory after each tenth of them."""
    asyncio.run(_memory(charges, batch))


async def _memory(charges: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite"
        await fill(ledger, 0, lambda _: None)
        async with serving(f"sqlite://{ledger}") as server:
            print(f"{0:>12,} charges: {server.memory_mib():.0f} MiB")
            for part in range(1, _PARTS + 1):
                await _charge(server, charges // _PARTS // batch, batch)
                done = charges // _PARTS * part
                print(f"{done:>12,} charges: {server.memory_mib():.0f} MiB", flush=True)


async def _charge(server: Server, calls: int, batch: int) -> None:
    in_flight = 128 if batch == 1 else max(_COMMANDS_IN_FLIGHT // batch, 1)
    stream = (
        Stream(f"{SERVICE}/Consume", consumes)
        if batch == 1
        else Stream(f"{SERVICE}/BatchConsume", batches(batch))
    )
    messages = itertools.islice(stream.messages(), calls)
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/{stream.method}")

        async def work() -> None:
            for message in messages:
                await call(message)

        await asyncio.gather(*(work() for _ in range(in_flight)))


if __name__ == "__main__":
    typer.run(memory)
