"""The two connections to a ledger file, each with its own thread: one writes, one reads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw
import structlog

from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.sqlite.companions import WAL, beside, size_of
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.lock import FileLock
from entitlements_server.stores.sqlite.writer import recover

_log = structlog.get_logger()
_Result = TypeVar("_Result")

_FAILURES = (apsw.Error, OSError, MemoryError)
"""After one of these it is unknown what is on disk and whether the connection still works."""


class Connections:
    """Runs work on a ledger file, outside of the event loop.

    After a failure both connections are closed. Nothing is written until `open` has been called again,
    which flushes the commit log.

    Args:
        path: The file, which is made if there is none. It is locked at once.
        vfs: Name of the apsw VFS to use; tests inject faults with it.

    Raises:
        StoreConfigurationError: Another process is using the file, or it must not be used as a ledger.
    """

    def __init__(self, path: Path, vfs: str | None) -> None:
        # A ledger with two names is still one ledger with one lock.
        self._path = path.resolve()
        self._vfs = vfs
        self._lock = FileLock(self._path)
        self._writing = ThreadPoolExecutor(1, "ledger-write")
        self._reading = ThreadPoolExecutor(1, "ledger-read")
        self._writer: Database | None = None
        self._reader: Database | None = None  # used by the reading thread only
        self._closed = False
        self._disk_is_full = False

    @property
    def is_new(self) -> bool:
        """Whether the ledger was made by opening it here."""
        return self._lock.is_new

    @property
    def is_in_place(self) -> bool:
        """Whether the files in use still have their names."""
        try:
            self._lock.require_in_place()
        except StoreUnavailableError:
            return False
        return self._lock.has_wal

    @property
    def is_open(self) -> bool:
        """Whether the writing connection is open."""
        return self._writer is not None

    @property
    def is_readable(self) -> bool:
        """Whether reads are served: a full disk keeps the file from being written, not from being read."""
        return self.is_open or self._disk_is_full

    @property
    def is_closed(self) -> bool:
        """Whether it was closed permanently."""
        return self._closed

    async def open(self) -> None:
        """Open the writing connection and flush the whole commit log.

        Raises:
            StoreConfigurationError: The file is not a ledger that this version can use.
            StoreUnavailableError: It could not be opened, read or written.
        """

        def work() -> Database:
            # A ledger that is gone must not be replaced by an empty one.
            self._lock.require_in_place()
            database = recover(self._path, self._vfs, self._lock.header)
            self._lock.note_wal()
            return database

        self._disk_is_full = False
        try:
            self._writer = await self._run(self._writing, work)
        except StoreUnavailableError as error:
            # The log was synced again first, and nothing since: all that can be read is durable.
            self._disk_is_full = isinstance(error.__cause__, apsw.FullError)
            raise

    async def write(self, work: Callable[[Database], _Result]) -> _Result:
        """Run work on the writing connection, after all earlier work.

        Raises:
            StoreUnavailableError: It failed, or earlier work did: the file must be opened again. Or the
                file was moved: nothing was written.
        """
        writer = self._writer
        if writer is None:
            raise StoreUnavailableError("The ledger file is not open.")
        return await self._run(self._writing, _unless_failed(writer, self._unless_moved(work)))

    async def read(self, work: Callable[[Database], _Result]) -> _Result:
        """Run work on the reading connection. It sees the tables, not the commit log.

        Raises:
            StoreUnavailableError: It failed. The next read opens the connection again.
        """
        return await self._run(self._reading, lambda: work(self._open_reader()))

    def drop(self) -> list[Future[None]]:
        """Close both connections after a failure, each after the current work of its thread."""
        closing = [self._reading.submit(self._close_reader)]
        if self._writer is not None:
            closing.append(self._writing.submit(self._writer.close))
            self._writer = None
        return closing

    async def close(self, *, checkpoint: bool = True) -> None:
        """Close both connections permanently and release the lock.

        Args:
            checkpoint: Leave only one file, unless there was a failure.
        """
        self._closed = True
        writer, self._writer = self._writer, None
        # The reader first: only the last connection can remove the write-ahead log, and a connection
        # that only reads cannot write it back.
        closing = [self._reading.submit(self._close_reader)]
        await asyncio.wait(map(asyncio.wrap_future, closing))
        if writer is not None:
            whole = checkpoint and not writer.failed and self.is_in_place
            closing = [self._writing.submit(partial(writer.close, checkpoint=whole))]
            await asyncio.wait(map(asyncio.wrap_future, closing))
            if whole and size_of(beside(self._path, WAL)):
                _log.warning(
                    "The ledger was left with its write-ahead log, because another program has it"
                    " open: to copy the ledger, copy both files. The next clean stop leaves one.",
                    file=str(self._path),
                )
        self._writing.shutdown()
        self._reading.shutdown()
        self._lock.release()

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        if self._closed:
            raise StoreUnavailableError("The ledger is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except _FAILURES as error:
            if thread is self._writing:
                self.drop()
            elif not self._closed:
                self._reading.submit(self._close_reader)
            raise StoreUnavailableError("The ledger file could not be read or written.") from error

    def _unless_moved(self, work: Callable[[Database], _Result]) -> Callable[[Database], _Result]:
        """Return work that fails if the files do not have their names: the next start would miss it."""

        def guarded(writer: Database) -> _Result:
            self._lock.require_in_place()
            if not self._lock.has_wal:
                # Everything is still readable here, and nowhere else.
                writer.checkpoint()
                raise OSError("The write-ahead log was removed. What was in it is in the ledger.")
            return work(writer)

        return guarded

    def _open_reader(self) -> Database:
        if self._reader is None:
            self._reader = Database(self._path, read_only=True, vfs=self._vfs)
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _unless_failed(writer: Database, work: Callable[[Database], _Result]) -> Callable[[], _Result]:
    """Return work that fails if earlier work on the connection has failed.

    A group written after a batch whose sync failed would look durable, but a power loss would leave a
    hole before it.
    """

    def guarded() -> _Result:
        if writer.failed:
            raise StoreUnavailableError("The ledger file has failed and is being opened again.")
        try:
            return work(writer)
        except _FAILURES:
            writer.failed = True
            raise

    return guarded
