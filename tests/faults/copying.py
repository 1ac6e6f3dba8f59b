"""A process that copies a ledger and kills itself: `python -m faults.copying SOURCE TARGET CALL`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from entitlements_server.maintenance.copy import copy
from entitlements_server.stores.sqlite import SqliteStore
from faults.disk import Disk, DiskLayer


async def copy_ledger(source: Path, target: Path, disk: Disk, *, resume: bool) -> None:
    """Copy one ledger file to another, which is written by way of `disk`."""
    layer = DiskLayer("copying", disk)
    here = await SqliteStore.open(source)
    try:
        there = await SqliteStore.open(target, vfs=layer.vfs_name)
        try:
            await copy(here, there, resume=resume)
        finally:
            await there.close()
    finally:
        await here.close()


def _kill_at(call: int) -> Disk:
    def fails(_call: str, _name: str) -> None:
        if disk.calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    disk = Disk(fail=fails)
    return disk


if __name__ == "__main__":
    asyncio.run(
        copy_ledger(Path(sys.argv[1]), Path(sys.argv[2]), _kill_at(int(sys.argv[3])), resume=False)
    )
