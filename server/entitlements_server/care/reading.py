"""Opening a ledger to look at it, whether or not a server has it open."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from entitlements_server.care.backup import backup
from entitlements_server.care.progress import Progress, silent
from entitlements_server.stores.opening import open_store, sqlite_file
from entitlements_server.stores.port import Store, StoreConfigurationError, StoreInUseError


@dataclass(frozen=True, slots=True)
class Opened:
    """A ledger that can be read.

    Attributes:
        store: What to read.
        file: The SQLite file behind it, if it is one.
        copied: Whether it is a copy, because a server has the original open.
    """

    store: Store
    file: Path | None
    copied: bool


@asynccontextmanager
async def reading(url: str, tell: Progress = silent) -> AsyncIterator[Opened]:
    """Open a ledger for reading while the block runs.

    A SQLite file that a server has open is copied first, to the folder for temporary files, and
    the copy is read: the state of one moment. Other stores are read as they are.

    Args:
        url: The store.
        tell: Told how the copying goes, in pages.

    Raises:
        StoreConfigurationError: There is no such ledger, or it cannot be opened.
        BackupError: The copy could not be made.
    """
    if url.startswith("memory:"):
        raise StoreConfigurationError(
            "A ledger in memory is seen by its server alone: name another with --store."
        )
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise StoreConfigurationError(f"There is no ledger {file}: name one with --store.")
    try:
        store = await open_store(url)
    except StoreInUseError:
        assert file is not None
        with tempfile.TemporaryDirectory(prefix="entitlements-") as folder:
            copy = Path(folder) / file.name
            await asyncio.to_thread(backup, file, copy, tell=tell)
            store = await open_store(f"sqlite://{quote(str(copy))}")
            try:
                yield Opened(store, copy, copied=True)
            finally:
                await store.close()
        return
    try:
        yield Opened(store, file, copied=False)
    finally:
        await store.close()
