"""One process per ledger file."""

import fcntl
import os
from pathlib import Path
from typing import Self

from entitlements_server.stores.port import StoreConfigurationError


class FileLock:
    """An exclusive lock beside the ledger file. The kernel drops it when the process dies.

    It is a file of its own, because closing any handle of a database file would drop the locks
    that SQLite itself holds on it.

    Raises:
        StoreConfigurationError: Another process holds it, or the folder cannot be written.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreConfigurationError(
                f"The ledger {database} cannot be opened ({error.strerror}): its folder must exist"
                " and be writable."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise StoreConfigurationError(
                f"The ledger {database} is in use by process {owner}: stop that one first, or name"
                " another file."
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Let other processes have the ledger."""
        os.close(self._file)
