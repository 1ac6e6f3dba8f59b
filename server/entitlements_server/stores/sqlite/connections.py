"""The two connections to a ledger file, each on a thread of its own: one writes, one reads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.lock import FileLock
from entitlements_server.stores.sqlite.writer import recover

_Result = TypeVar("_Result")

_FAILURES = (apsw.Error, OSError, MemoryError)
"""After any of these it is unknown what is on disk and whether the connection still works."""


class Connections:
    """Runs work on a ledger file, away from the event loop, and gives up what has failed.

    After a failure both connections are closed, and nothing is written until `open` has been called
    again and the commit log been flushed.

    Args:
        path: Of the file. This process locks it at once.
        vfs: Name of the apsw VFS to use, for injecting faults.

    Raises:
        StoreConfigurationError: Another process has the file, or the folder cannot be written.
    """

    def __init__(self, path: Path, vfs: str | None) -> None:
        # A ledger that is reached by two names is still one ledger, with one lock.
        self._path = path.resolve()
        self._vfs = vfs
        self._lock = FileLock(self._path)
        self._writing = ThreadPoolExecutor(1, "ledger-write")
        self._reading = ThreadPoolExecutor(1, "ledger-read")
        self._writer: Database | None = None
        self._reader: Database | None = None  # belongs to the reading thread alone
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that writes."""
        return self._writer is not None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    async def open(self, *, create: bool = False) -> None:
        """Open the connection that writes, with the whole commit log flushed.

        Args:
            create: Make the file if it is not there.

        Raises:
            StoreConfigurationError: The file is no ledger that this program can use.
            StoreUnavailableError: It could not be opened, read or written.
        """
        work = partial(recover, self._path, self._vfs, create=create)
        self._writer = await self._run(self._writing, work)

    async def write(self, work: Callable[[Database], _Result]) -> _Result:
        """Run work on the connection that writes, after what was asked before.

        Raises:
            StoreUnavailableError: It failed, or something before it did: the file has to be opened
                again.
        """
        writer = self._writer
        if writer is None:
            raise StoreUnavailableError("The ledger file is not open.")
        return await self._run(self._writing, _unless_failed(writer, work))

    async def read(self, work: Callable[[Database], _Result]) -> _Result:
        """Run work on the connection that reads; it sees the tables, not the commit log.

        Raises:
            StoreUnavailableError: It failed; the next one opens the connection again.
        """
        return await self._run(self._reading, lambda: work(self._open_reader()))

    def drop(self, *, checkpoint: bool = False) -> list[Future[None]]:
        """Close both connections, each after what its thread is doing."""
        closing = [self._reading.submit(self._close_reader)]
        if self._writer is not None:
            close = partial(self._writer.close, checkpoint=checkpoint)
            closing.append(self._writing.submit(close))
            self._writer = None
        return closing

    async def close(self, *, checkpoint: bool = True) -> None:
        """Close both for good, and let other processes have the file.

        Args:
            checkpoint: Leave one file only, unless there was a failure.
        """
        self._closed = True
        await asyncio.wait(map(asyncio.wrap_future, self.drop(checkpoint=checkpoint)))
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

    def _open_reader(self) -> Database:
        if self._reader is None:
            self._reader = Database(self._path, read_only=True, vfs=self._vfs)
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _unless_failed(writer: Database, work: Callable[[Database], _Result]) -> Callable[[], _Result]:
    """Refuse work that was queued when there was a failure: it must not go on where a sync is missing.

    A group that is written after a batch whose sync failed would look durable, and a power loss
    would find a hole before it.
    """

    def guarded() -> _Result:
        if writer.failed:
            raise StoreUnavailableError("The ledger file has failed and is opened again.")
        try:
            return work(writer)
        except _FAILURES:
            writer.failed = True
            raise

    return guarded
