"""The SQLite store with small limits: what happens after thousands of transactions, after a few."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from entitlements_server.engine import sweeper
from entitlements_server.stores.sqlite import companions, connections, wal_rewrite, writer
from entitlements_server.stores.sqlite import database as database_module
from entitlements_server.stores.sqlite import store as store_module
from faults.disk import Disk

FASTEST_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""For files that stand for the page cache, or for a crash image; only speed depends on it."""

SWEEP_EVERY_S = 0.005
"""So that the sweeper meets a life of a few dozen requests, seconds."""


@contextmanager
def small_store(
    *,
    segment: int,
    batch: int,
    cached: int,
    checkpoint_pages: int,
    thread: Any = ThreadPoolExecutor,
) -> Iterator[None]:
    """Set the limits of every store that is opened while the block runs.

    Args:
        segment: Transactions that are flushed together.
        batch: Transactions flushed at a time.
        cached: Accounts in memory.
        checkpoint_pages: Pages in the write-ahead log before it is written back.
        thread: What stands for the executors of one thread each.
    """

    values = {
        "SEGMENT_SIZE": segment,
        "MIN_FLUSH_SIZE": batch,
        "CACHED_ACCOUNTS": cached,
    }
    with ExitStack() as stack:
        stack.enter_context(patch.object(database_module, "CHECKPOINT_PAGES", checkpoint_pages))
        stack.enter_context(patch.object(sweeper, "POLL_S", SWEEP_EVERY_S))
        stack.enter_context(patch.object(connections, "ThreadPoolExecutor", thread))
        for name, value in values.items():
            stack.enter_context(patch.object(store_module, name, value))
        yield


@contextmanager
def own_syncs_reach(disk: Disk) -> Iterator[None]:
    """Do to the disk what the product does to it without SQLite, whose file access is all it sees."""

    def sync_folder(_: Path) -> None:
        disk.step("sync-folder", "")
        disk.folder_synced()

    def rewrite_wal(path: Path) -> None:
        for log in (Path(f"{path}-wal"), Path(f"{path}-journal")):
            if log.exists():
                disk.rewrite(str(log))
        really_rewrite_wal(path)

    really_rewrite_wal: Any = vars(writer)["rewrite_wal"]
    with ExitStack() as stack:
        stack.enter_context(patch.object(companions, "sync_folder", sync_folder))
        if really_rewrite_wal is wal_rewrite.rewrite_wal:  # and not broken on purpose
            stack.enter_context(patch.object(writer, "rewrite_wal", rewrite_wal))
        yield
