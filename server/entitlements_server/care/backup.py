"""A consistent copy of a ledger file, made while a server may be writing to it.

The copy is of one moment: a read transaction is held open, and in WAL mode neither waits for the
server nor makes it wait. All that was acknowledged before is in it, the journal included.
"""

import os
import tempfile
from contextlib import closing
from pathlib import Path

import apsw

from entitlements_server.care.progress import Progress, silent
from entitlements_server.stores.sqlite.database import migrations

_PAGES = 1000
_BUSY_MS = 5000


class BackupError(Exception):
    """There is no backup; the message says why. Nothing is left under its name."""


def backup(ledger: Path, target: Path, *, replace: bool = False, tell: Progress = silent) -> int:
    """Copy a ledger file. On return the copy is on disk under its name, or not at all.

    Args:
        ledger: The file that a server may have open.
        target: Where the copy goes. Its folder must exist.
        replace: Whether a file of that name may be replaced.
        tell: Told of pages.

    Returns:
        Size of the copy in bytes.

    Raises:
        BackupError: It could not be made.
    """
    if not ledger.is_file():
        raise BackupError(f"There is no ledger {ledger}: name the store that the server has.")
    if target.exists() and not replace:
        raise BackupError(f"{target} is there already: choose another name, or say --replace.")
    if target.exists() and target.samefile(ledger):
        raise BackupError(f"{target} is the ledger itself: choose another name.")
    try:
        handle, name = tempfile.mkstemp(".partial", f".{target.name}.", target.parent)
    except OSError as error:
        raise BackupError(
            f"Nothing can be written to {target.parent}: {error.strerror}."
        ) from error
    partial = Path(name)
    try:
        try:
            _copy(ledger, partial, tell)
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


def _copy(ledger: Path, partial: Path, tell: Progress) -> None:
    with (
        closing(apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)) as source,
        closing(apsw.Connection(str(partial))) as target,
    ):
        source.set_busy_timeout(_BUSY_MS)
        version = source.pragma("user_version")
        if not 1 <= version <= len(migrations()):
            raise BackupError(
                f"{ledger} is no ledger that this version knows (schema version {version})."
            )
        # A crash leaves no copy anyway, so the copy needs no journal of its own.
        target.pragma("journal_mode", "off")
        target.pragma("synchronous", "off")
        source.execute("BEGIN")
        # The moment of the copy: the snapshot begins with the first read.
        source.execute("SELECT count(*) FROM journal").fetchall()
        with target.backup("main", source, "main") as copying:
            while not copying.step(_PAGES):
                tell(copying.page_count - copying.remaining, copying.page_count)
            tell(copying.page_count, copying.page_count)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
