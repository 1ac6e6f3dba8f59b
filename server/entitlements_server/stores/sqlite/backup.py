"""A consistent copy of a ledger file, even while a server is writing to it.

The copy shows one moment: it is made in one read transaction. In WAL mode neither the copy nor the
server waits for the other. Everything acknowledged before is in it, including the commit log.
"""

import os
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from entitlements_server.stores.interface import (
    BackupError,
    Progress,
    StoreConfigurationError,
    silent,
)
from entitlements_server.stores.sqlite.file_format import format_of

_PAGES = 1000
_BUSY_MS = 5000


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """A ledger file, which a server may have open: see SupportsBackup."""

    path: Path

    def backup(self, target: Path, *, replace: bool = False, progress: Progress = silent) -> int:
        """See SupportsBackup."""
        ledger = self.path
        if not ledger.is_file():
            raise BackupError(f"There is no ledger {ledger}: name the server's store.")
        if target.exists() and not replace:
            raise BackupError(f"{target} already exists: choose another name, or add --replace.")
        if target.exists() and target.samefile(ledger):
            raise BackupError(f"{target} is the ledger itself: choose another name.")
        try:
            handle, name = tempfile.mkstemp(".partial", f".{target.name}.", target.parent)
        except OSError as error:
            raise BackupError(
                f"The folder {target.parent} cannot be written: {error.strerror}."
            ) from error
        partial = Path(name)
        try:
            try:
                _copy(ledger, partial, progress)
                os.fsync(handle)
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            partial.replace(target)
            _sync_folder(target.parent)
        except (apsw.Error, OSError) as error:
            raise BackupError(
                f"The ledger {ledger} could not be copied to {target}: {error}."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return size

    def url_of(self, backup: Path) -> str:
        """See SupportsBackup."""
        return f"sqlite://{quote(str(backup))}"


def _copy(ledger: Path, partial: Path, progress: Progress) -> None:
    with (
        closing(apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)) as source,
        closing(apsw.Connection(str(partial))) as target,
    ):
        source.set_busy_timeout(_BUSY_MS)
        try:
            known = format_of(source, ledger)
        except StoreConfigurationError as error:
            raise BackupError(str(error)) from error
        if known is None:
            raise BackupError(f"There is no ledger in {ledger}: name the server's store.")
        # After a crash there is no copy anyway, so it needs no journal.
        target.pragma("journal_mode", "off")
        target.pragma("synchronous", "off")
        source.execute("BEGIN")
        # The moment of the copy: a snapshot begins with its first read.
        source.execute("SELECT count(*) FROM commit_log").fetchall()
        with target.backup("main", source, "main") as copying:
            while not copying.step(_PAGES):
                progress(copying.page_count - copying.remaining, copying.page_count)
            progress(copying.page_count, copying.page_count)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
