"""What metrics and logs cost: two servers, one watched and one not, measured in turns.

bench/watching.py --rounds 9
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from filling import fill
from generators import generator, run
from generators.load import Target
from servers import serving
from workloads import CONSUME

_OFF = ("--log-level", "error")
SIDES = {
    "both off": _OFF,
    "metrics and logs": ("--metrics-listen", "127.0.0.1:0", "--log-format", "json"),
}
_EVERY_CALL = (*SIDES["metrics and logs"], "--log-calls")


def watching(
    *,
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 4.0,
    rounds: Annotated[int, typer.Option(help="How often the servers take turns.")] = 7,
    log_calls: Annotated[bool, typer.Option(help="Measure a line for every call, too.")] = False,
) -> None:
    """Print the Consume rate with and without metrics and logs, and the ratio."""
    sides = {**SIDES, "a line for every call": _EVERY_CALL} if log_calls else SIDES
    rates, costs = asyncio.run(_measure(sides, seconds, rounds))
    base = "both off"
    for name in sides:
        line = [f"{name:22}"]
        for what, unit in ((rates, "calls/s"), (costs, "us of CPU a call")):
            mine, other = what[name], what[base]
            ratio = median(one / two for one, two in zip(mine, other, strict=True))
            line.append(f"{median(mine):7.0f} {unit}, ratio {ratio:.3f}")
        typer.echo("  ".join(line))


async def _measure(
    sides: dict[str, tuple[str, ...]], seconds: float, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the rate and the CPU per call of each side, by rounds.

    The CPU says more on a machine that others use, too.
    """
    rates: dict[str, list[float]] = {name: [] for name in sides}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers = {}
        sender = generator(CONSUME.generator)
        assert sender is not None
        for number, (name, options) in enumerate(sides.items()):
            ledger = Path(folder) / f"{number}.sqlite"
            await fill(ledger, 0, lambda _: None)
            server = await stack.enter_async_context(serving(f"sqlite://{ledger}", *options))
            servers[name] = server
            await run(sender, Target(server.address), CONSUME.make(1.0), 1.0)
        for number in range(rounds):
            names = list(sides)
            # Who comes first changes, too: it finds the processor cooler.
            for name in names if number % 2 == 0 else reversed(names):
                before_s = servers[name].cpu_s()
                target = Target(servers[name].address)
                load = await run(sender, target, CONSUME.make(seconds), seconds)
                costs[name].append(1e6 * (servers[name].cpu_s() - before_s) / load.calls)
                assert set(load.codes) == {"OK"}, load.codes
                rates[name].append(load.rate)
                await servers[name].quiet()
    return rates, costs


if __name__ == "__main__":
    typer.run(watching)
