"""What sends the calls. Each kind has a module: `ghz`, `h2load`, `wrk`, and Python where there is no ghz.

All of them run as processes of their own and report the same `Load`.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from generators.ghz import Ghz
from generators.h2load import H2load
from generators.load import Calls, Generator, Load, Target
from generators.python import Python
from generators.wrk import Wrk

__all__ = ["GENERATORS", "Calls", "Generator", "Load", "Target", "generator", "run"]

GENERATORS: dict[str, Generator] = {one.name: one for one in (Ghz(), H2load(), Wrk(), Python())}
"""By name. The name is that of the program, which may be missing."""

# Where `go install` puts ghz.
os.environ["PATH"] += f"{os.pathsep}{Path.home() / 'go/bin'}"


def generator(name: str) -> Generator | None:
    """Return the generator of that name; in place of ghz another, else None where it is missing."""
    if shutil.which(name):
        return GENERATORS[name]
    return GENERATORS["python"] if name == "ghz" else None


async def run(
    generator: Generator, target: Target, streams: Sequence[Calls], seconds: float, rps: int = 0
) -> Load:
    """Send the calls of all streams at the same time.

    Args:
        generator: Sends them.
        target: Where to.
        streams: What to send.
        seconds: For how long.
        rps: Calls per second, or 0 for as many as are answered.

    Raises:
        SystemExit: A generator failed, or was quicker than messages were made for it.
    """
    sent = []
    with tempfile.TemporaryDirectory() as folder:
        for number, calls in enumerate(streams):
            own = Path(folder) / str(number)
            own.mkdir()
            sent.append(generator.send(target, calls, seconds, rps, own))
        loads = await asyncio.gather(*sent)
    for calls, load in zip(streams, loads, strict=True):
        if calls.once and load.calls > len(calls.messages):
            raise SystemExit(
                f"{load.calls} calls of {calls.method} were made of {len(calls.messages)} messages,"
                " so some were replays and the figures mean nothing. Raise `most_per_second` in"
                " bench/workloads.py."
            )
    return Load.sum(loads)
