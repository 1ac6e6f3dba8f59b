"""Copies of a ledger file: backups, even while a server is writing to it, and putting one in place.

A backup shows one moment: it is made in one read transaction. In WAL mode neither the copy nor the
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
    DamagedLedgerError,
    Progress,
    StoreConfigurationError,
    silent,
)
from entitlements_server.stores.sqlite.companions import (
    COMPANIONS,
    JOURNAL,
    OLD_LOCK,
    RESTORING,
    WAL,
    beside,
    is_full,
    size_of,
    sync_folder,
)
from entitlements_server.stores.sqlite.file_format import format_of
from entitlements_server.stores.sqlite.lock import owner_of
from entitlements_server.stores.sqlite.restore_mark import RestoreMark
from entitlements_server.stores.urls import require_utf8

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
        try:
            require_utf8(target)
            _require_apart(target, ledger)
            _require_free(target, replace=replace)
            handle, name = tempfile.mkstemp(".partial", f".{target.name}.", target.parent)
        except OSError as error:
            raise BackupError(f"{target} cannot be written: {error.strerror}.") from error
        partial = Path(name)
        try:
            try:
                _copy(ledger, partial, progress)
                os.fsync(handle)
                size = os.fstat(handle).st_size
            finally:
                os.close(handle)
            _replace(target, partial)
            sync_folder(target.parent)
        except apsw.CorruptError as error:
            raise DamagedLedgerError(f"{ledger} is damaged: SQLite reports '{error}'.") from error
        except (apsw.Error, OSError) as error:
            # Of a full disk SQLite reports "not an error" here.
            full = isinstance(error, apsw.FullError) or is_full(target.parent)
            what = "the disk is full: free some space" if full else error
            raise BackupError(
                f"The ledger {ledger} could not be copied to {target}: {what}."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return size

    def put_in_place(self, backup: Path) -> Path | None:
        """See SupportsBackup."""
        ledger = self.path.resolve()
        if size_of(beside(backup, WAL)):
            raise BackupError(f"{backup} has a write-ahead log: nothing was changed.")
        try:
            with RestoreMark(ledger) as mark:
                aside = mark.aside
                was_there = [_move(ledger, aside)]
                was_there += [
                    _move(beside(ledger, one), beside(aside, one)) for one in (WAL, JOURNAL)
                ]
                for suffix in (*COMPANIONS, OLD_LOCK):
                    beside(ledger, suffix).unlink(missing_ok=True)
                sync_folder(ledger.parent)
                backup.replace(ledger)
                sync_folder(ledger.parent)
                mark.remove()
        except OSError as error:
            raise BackupError(
                f"The ledger {ledger} could not be replaced ({error}): mend that, then run `restore`"
                " again."
            ) from error
        return aside if any(was_there) else None

    def url_of(self, backup: Path) -> str:
        """See SupportsBackup."""
        return f"sqlite://{quote(str(require_utf8(backup)))}"


def _require_apart(target: Path, ledger: Path) -> None:
    """Reject a target that is the ledger, or one of whose files would be a file of the ledger.

    A backup under the name of a companion would be taken for it, and one whose companion has the name of
    the ledger would delete the ledger.
    """
    ledger, target = ledger.resolve(), target.resolve()
    if target == ledger or (target.exists() and target.samefile(ledger)):
        raise BackupError(f"{target} is the ledger itself: choose another name.")
    suffixes = (*COMPANIONS, RESTORING, OLD_LOCK)
    if target in {beside(ledger, one) for one in suffixes}:
        raise BackupError(f"{target} is the name of a part of the ledger: choose another name.")
    if ledger in {beside(target, one) for one in suffixes}:
        raise BackupError(
            f"The ledger {ledger} has the name of a part of a ledger {target}: choose another name."
        )


def _require_free(target: Path, *, replace: bool) -> None:
    """Check that nothing is under a name, or that it may be replaced. What lies beside it is part of it."""
    if target.exists() and not target.is_file():
        # Not even with --replace: a folder, a device, or a pipe that nobody writes to.
        raise BackupError(f"{target} is no file: choose another name.")
    if target.exists() and not replace:
        raise BackupError(f"{target} already exists: choose another name, or add --replace.")
    logs = [path for path in (beside(target, one) for one in (WAL, JOURNAL)) if size_of(path)]
    if logs and not replace:
        names = " and ".join(map(str, logs))
        raise BackupError(
            f"There is {names}, which belongs to a ledger {target} and would damage another: move it"
            " away, choose another name, or add --replace to delete it."
        )
    owner = owner_of(target)
    if owner:
        raise BackupError(f"{target} is in use by {owner}: choose another name.")


def _replace(target: Path, copy: Path) -> None:
    """Put a copy under a name, and delete what belonged to the file that had it."""
    companions = [beside(target, suffix) for suffix in (*COMPANIONS, OLD_LOCK)]
    if any(map(size_of, companions)):
        # Nothing under the name for a moment is better than a file with the log of another one.
        target.unlink(missing_ok=True)
        sync_folder(target.parent)
    for companion in companions:
        companion.unlink(missing_ok=True)
    sync_folder(target.parent)
    copy.replace(target)


def _move(path: Path, to: Path) -> bool:
    """Rename a file. Returns whether it is there."""
    if path.exists():
        path.rename(to)
    return to.exists()


def _copy(ledger: Path, partial: Path, progress: Progress) -> None:
    with (
        closing(_open_source(ledger)) as source,
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


def _open_source(ledger: Path) -> apsw.Connection:
    """Open a ledger for reading, so that a ledger of one file is left as one file."""
    if size_of(beside(ledger, WAL)) or owner_of(ledger):
        return apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    if os.access(ledger, os.W_OK) and os.access(ledger.parent, os.W_OK):
        # Only a connection that may write removes its own empty log.
        return apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)
    # On a read-only disk there is no place for a log, and none is needed.
    return apsw.Connection(
        f"file:{quote(str(ledger.resolve()))}?immutable=1",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
    )
