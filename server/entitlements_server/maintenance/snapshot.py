"""Opens a ledger for reading, even while a server is using it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from entitlements_server.stores.factory import ledger_backup, open_store
from entitlements_server.stores.interface import (
    Progress,
    Store,
    StoreConfigurationError,
    StoreInUseError,
    SupportsBackup,
    silent,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ledger that can be read.

    Attributes:
        store: The ledger to read.
        file: Its file, if it has one.
        copied: Whether it is a copy, because a server is using the original, or it cannot be written.
    """

    store: Store
    file: Path | None
    copied: bool


@asynccontextmanager
async def open_snapshot(url: str, progress: Progress = silent) -> AsyncIterator[Snapshot]:
    """Open a ledger for reading while the block runs.

    A file that a server is using, or that cannot be written, is first copied to the folder for
    temporary files, and the copy is read. It shows the state of one moment. Other stores are read
    directly.

    Args:
        url: The store's URL.
        progress: Reports copied pages.

    Raises:
        StoreConfigurationError: The ledger does not exist or cannot be opened.
        BackupError: The copy could not be made.
    """
    if url.startswith("memory:"):
        raise StoreConfigurationError(
            "A ledger in memory can only be read by its server: name another with --store."
        )
    ledger = ledger_backup(url)
    if ledger is not None and (not ledger.path.exists() or not ledger.path.stat().st_size):
        raise StoreConfigurationError(f"There is no ledger {ledger.path}: name one with --store.")
    try:
        store = await _open_original(url, ledger)
    except StoreInUseError:
        assert ledger is not None
        with tempfile.TemporaryDirectory(prefix="entitlements-") as folder:
            copy = Path(folder) / ledger.path.name
            await asyncio.to_thread(ledger.backup, copy, progress=progress)
            store = await open_store(ledger.url_of(copy))
            try:
                yield Snapshot(store, copy, copied=True)
            finally:
                await store.close()
        return
    try:
        yield Snapshot(store, ledger.path if ledger is not None else None, copied=False)
    finally:
        await store.close()


async def _open_original(url: str, ledger: SupportsBackup | None) -> Store:
    """Open the ledger itself.

    Raises:
        StoreInUseError: It has to be read from a copy.
    """
    if ledger is not None:
        file = ledger.path
        if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
            raise StoreInUseError(f"The ledger {file} cannot be written.")
    return await open_store(url)
