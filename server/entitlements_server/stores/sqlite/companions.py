"""The files beside a ledger that are part of it, and what may lie there without it."""

import os
from pathlib import Path

WAL = "-wal"
"""Suffix of SQLite's write-ahead log: the newest transactions, until they are in the main file."""

JOURNAL = "-journal"
"""Suffix of SQLite's rollback journal: there while a new file is made."""

SHARED_MEMORY = "-shm"
"""Suffix of the index of the write-ahead log. It is made again at any time."""

RESTORING = "-restoring"
"""Suffix of the mark that a restore has begun to move files."""

OLD_LOCK = ".lock"
"""Suffix of the lock file of earlier versions, which stayed beside the ledger."""

COMPANIONS = (WAL, JOURNAL, SHARED_MEMORY)
"""Suffixes of SQLite's files."""


def beside(ledger: Path, suffix: str) -> Path:
    """Return the file with a suffix beside a ledger."""
    return ledger.with_name(ledger.name + suffix)


def traces(ledger: Path) -> list[Path]:
    """Return what shows that there was a ledger of this name: its companions that hold something."""
    named = [beside(ledger, suffix) for suffix in (WAL, JOURNAL)]
    found = [path for path in named if size_of(path)]
    lock = beside(ledger, OLD_LOCK)
    return [*found, lock] if lock.exists() else found


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names of its files survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_full(folder: Path) -> bool:
    """Whether nothing more fits on the disk of a folder."""
    try:
        free = os.statvfs(folder)
    except OSError:
        return False
    return not free.f_bavail * free.f_frsize


def size_of(path: Path) -> int:
    """Return the size of a file in bytes: 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
