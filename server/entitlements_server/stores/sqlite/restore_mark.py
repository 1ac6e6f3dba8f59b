"""The mark that a restore is moving files: no server starts meanwhile, and no second restore."""

import fcntl
import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from entitlements_server.stores.interface import StoreInUseError
from entitlements_server.stores.sqlite.companions import (
    COMPANIONS,
    RESTORING,
    beside,
    sync_folder,
)
from entitlements_server.stores.sqlite.lock import FileLock, owner_of


class RestoreMark:
    """Holds the mark, and the lock of the ledger that is there, while the block runs.

    A mark that nobody holds is of an interrupted restore, which the block completes. It stays after an
    interruption, and after an error once the ledger was moved.

    Args:
        ledger: The ledger, absolute and without symbolic links. It need not exist.

    Attributes:
        aside: The name that the old ledger gets: that of an interrupted restore, if there was one.

    Raises:
        StoreInUseError: A server has the ledger, or another restore the mark.
        StoreConfigurationError: The file there must not be moved; the message says why.
        OSError: The mark cannot be written.
    """

    aside: Path

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._path = beside(ledger, RESTORING)
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        self._file = self._take()
        try:
            if self._ledger.exists():
                self._lock = FileLock(self._ledger, create=False, restoring=True)
            self.aside = self._name_aside()
        except BaseException as error:
            self._end(keep=not isinstance(error, Exception) or not self._ledger.exists())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed_before_moving = isinstance(error, Exception) and self._is_in_place
        self._end(keep=not failed_before_moving)

    def remove(self) -> None:
        """Remove the mark: the new ledger is in place."""
        self._path.unlink()
        sync_folder(self._path.parent)

    @property
    def _is_in_place(self) -> bool:
        """Whether the ledger that was there still has its name."""
        return self._lock is not None and self._lock.is_in_place

    def _take(self) -> int:
        """Open the mark and lock it. Repeats if its holder removes it at that moment."""
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(file)
                owner = owner_of(self._path) if self._path.exists() else "another process"
                raise StoreInUseError(
                    f"The ledger {self._ledger} is being restored by {owner or 'another process'}:"
                    " wait for it. Nothing was changed."
                ) from error
            if _is_at(self._path, file):
                return file
            os.close(file)

    def _name_aside(self) -> Path:
        begun = os.pread(self._file, 4096, 0)
        if begun and not self._ledger.exists():
            return self._ledger.with_name(os.fsdecode(begun))
        aside = _free_name(self._ledger)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, os.fsencode(aside.name), 0)
        os.fsync(self._file)
        sync_folder(self._path.parent)
        return aside

    def _end(self, *, keep: bool) -> None:
        if not keep:
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        if self._lock is not None:
            self._lock.release()


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file still has a name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _free_name(ledger: Path) -> Path:
    """Return a name for the old ledger that no file has, nor one of its companions."""
    now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (f"{ledger.name}.replaced-{now}{f'-{n}' if n else ''}" for n in count())
    return next(
        path
        for path in map(ledger.with_name, names)
        if not any(beside(path, one).exists() for one in ("", *COMPANIONS))
    )
