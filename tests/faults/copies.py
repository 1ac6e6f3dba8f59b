"""A `copy` that is killed at a random point: what is there is a beginning, and is recognized as one.

The target of a killed copy holds beginnings of the same histories and nothing else; a plain copy
onto it is refused, so nobody takes it for the ledger; and `--resume` brings all of it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from unittest.mock import patch

from entitlements_server.engine.engine import Engine
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import Consume, TopUp
from entitlements_server.maintenance import copy as product
from entitlements_server.stores.sqlite import SqliteStore
from faults.copying import copy_ledger
from faults.disk import Disk
from faults.engine_client import histories
from faults.figures import Advance, Report, silent
from faults.records import Line
from support.repository import TESTS

USERS = 120
CHARGES = 25


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Kill `size` copies."""
    report = Report()
    random = Random(seed)
    killed = begun = 0
    with tempfile.TemporaryDirectory() as root:
        source = Path(root) / "source.sqlite"
        asyncio.run(_fill(source))
        whole = asyncio.run(_read(source))
        calls = _calls(source, Path(root))
        for number in range(size):
            target = Path(root) / f"{number}.sqlite"
            killed += _copy_and_kill(source, target, random.randrange(1, calls + 1))
            if target.exists():
                begun += 1
                report.problems += [
                    f"kill {number}: {one}"
                    for one in asyncio.run(_problems(source, target, whole, breaking))
                ]
            advance(1)
            if breaking and report.problems:
                break
    report.note("copies killed", killed, "100")
    report.note("copies that had made a file by then", begun)
    report.note("of these resumed and completed", begun - len(report.problems))
    report.note("accepted as complete, or impossible to complete", len(report.problems), "0")
    return report


async def _fill(path: Path) -> None:
    store = await SqliteStore.open(path)
    engine = Engine(store, lambda: BUILT_IN)
    users = [f"user-{number}" for number in range(USERS)]
    await engine.submit([TopUp(user_id=user_id, amount=1000) for user_id in users])
    for _ in range(CHARGES):
        charges = [Consume(user_id=user_id, feature="full_distribution") for user_id in users]
        await engine.submit(charges)
    await store.close()


async def _read(path: Path) -> dict[str, list[Line]]:
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(path)
        stack.push_async_callback(store.close)
        return await histories(store)


def _calls(source: Path, root: Path) -> int:
    """How many I/O calls a whole copy takes."""
    disk = Disk()
    asyncio.run(copy_ledger(source, root / "whole.sqlite", disk, resume=False))
    return disk.calls


def _copy_and_kill(source: Path, target: Path, call: int) -> bool:
    child = subprocess.run(
        [sys.executable, "-m", "faults.copying", str(source), str(target), str(call)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
        timeout=120,
    )
    return child.returncode == -signal.SIGKILL


async def _problems(
    source: Path, target: Path, whole: dict[str, list[Line]], breaking: str
) -> list[str]:
    begun = await _read(target)
    for user_id, lines in begun.items():
        if lines != whole[user_id][: len(lines)]:
            return [f"{user_id} has another history than in the source"]
    if begun:
        try:
            await copy_ledger(source, target, Disk(), resume=False)
        except product.CopyError:
            pass
        else:
            return ["a plain copy onto the beginning of one was not refused"]
    try:
        if breaking == "copy-without-comparing":
            await _resume_carelessly(source, target)
        else:
            await copy_ledger(source, target, Disk(), resume=True)
    except product.CopyError as error:
        return [f"it cannot be resumed: {error}"]
    return [] if await _read(target) == whole else ["what was resumed is not whole"]


async def _resume_carelessly(source: Path, target: Path) -> None:
    """The control: the newest transaction of each batch is left out, and nothing is compared."""
    append = product._append

    async def most(store: object, transactions: list[object]) -> None:
        await append(store, transactions[:-1])  # type: ignore[arg-type]

    async def nothing(*_: object) -> None:
        """Compare nothing."""

    with patch.object(product, "_append", most), patch.object(product, "_verify", nothing):
        await copy_ledger(source, target, Disk(), resume=True)
