"""One process per ledger file."""

import fcntl
import os
from pathlib import Path

from entitlements_server.stores.interface import StoreConfigurationError, StoreInUseError


class FileLock:
    """An exclusive lock next to the ledger file. The kernel drops it when the process dies.

    It is a separate file because closing any handle of a database file would drop SQLite's own locks
    on it.

    Raises:
        StoreInUseError: Another process holds it.
        StoreConfigurationError: The folder cannot be written.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            assert self._file is not None
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise StoreInUseError(
                f"The ledger {database} is in use by process {owner}: stop that process first, or"
                " name another file."
            ) from error
        except OSError as error:
            self.release()
            raise StoreConfigurationError(
                f"The ledger {database} cannot be opened ({error.strerror}): its folder must exist"
                " and be writable."
            ) from error

    def release(self) -> None:
        """Release the lock. May be called again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
