"""What batching brings one Python process: charges per second with and without, in turns.

    bench/batching.py --in-flight 128 --rounds 5

Each of so many tasks charges a user again and again through `AsyncEntitlementClient`, as the handlers
of one API process would, on a real server with a SQLite file.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated

import typer
from filling import fill
from generators.load import Target
from rich.console import Console
from rich.progress import track
from servers import serving, warm_up
from users import USERS, user_id

from entitlements import AsyncEntitlementClient

console = Console()
_FEATURE = "full_distribution"


def batching(
    in_flight: Annotated[int, typer.Option(help="Charges asked for at the same time.")] = 128,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="How often the two take turns.")] = 5,
) -> None:
    """Charge through the client, with and without `batching`, and print the rates."""
    rates = asyncio.run(_measure(in_flight, seconds, rounds))
    alone, together = (median(rates[batching]) for batching in (False, True))
    ratios = [mine / other for mine, other in zip(rates[True], rates[False], strict=True)]
    console.print(
        f"{in_flight} in flight: {alone:,.0f} charges per second alone, {together:,.0f} batched;"
        f" median of the ratios {median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"
    )


async def _measure(in_flight: int, seconds: float, rounds: int) -> dict[bool, list[float]]:
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite"
        await fill(ledger, 0, lambda _: None)
        async with serving(f"sqlite://{ledger}") as server:
            await warm_up(Target(server.address))
            for number in track(range(rounds + 1), console=console):
                for batching in (False, True) if number % 2 else (True, False):
                    rate = await _charge(server.address, batching, in_flight, seconds)
                    if number:  # the first round warms up
                        rates[batching].append(rate)
    return rates


async def _charge(address: str, batching: bool, in_flight: int, seconds: float) -> float:
    random = Random()
    done = 0
    begin = time.perf_counter()
    async with AsyncEntitlementClient(address, batching=batching) as client:

        async def work() -> None:
            nonlocal done
            while time.perf_counter() < begin + seconds:
                await client.consume(user_id(random.randrange(USERS)), _FEATURE)
                done += 1

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return done / (time.perf_counter() - begin)


if __name__ == "__main__":
    typer.run(batching)
