"""The mark of a ledger file, and the version of its format."""

from contextlib import closing
from pathlib import Path

import apsw

from entitlements_server.stores.format import FORMAT, Format
from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.sqlite.companions import JOURNAL, WAL, beside, size_of

APPLICATION_ID = 0x656E7431
"""The mark of a ledger file: "ent1"."""

_FOREIGN = "The file {} is a database of another program: name another file."
_BUSY_MS = 5000

_MINORS = 1000
"""SQLite stores one version number: the major times this, plus the minor."""

_UNMARKED_TABLE = "idempotency_keys"
"""A table of ledgers from before files had a mark."""

_MARK_OFFSET = 68
_PAGE_COUNT_OFFSET = 28


def format_of(connection: apsw.Connection, path: Path) -> Format | None:
    """Return the format of a ledger file, or None if the file is empty.

    Raises:
        StoreConfigurationError: It has another major version, or is not a ledger.
    """
    application = connection.pragma("application_id")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    if application == APPLICATION_ID:
        found = Format(*divmod(connection.pragma("user_version"), _MINORS))
        if not found.is_readable:
            raise StoreConfigurationError(
                f"The ledger {path} has format {found} and this version reads formats"
                f" {FORMAT.major}.x; it was not changed. Run the version that wrote it."
            )
        return found
    if _UNMARKED_TABLE in tables:
        raise StoreConfigurationError(
            f"The ledger {path} was written before the first release, in a format that is no"
            " longer read; it was not changed. Name another file."
        )
    if application or tables:
        raise StoreConfigurationError(_FOREIGN.format(path))
    return None


def require_ledger(path: Path, vfs: str | None, header: bytes) -> None:
    """Check that a file is a ledger, or empty, before anything beside it is touched.

    Args:
        path: The file.
        vfs: Name of the apsw VFS to use.
        header: Its first 100 bytes.

    Raises:
        StoreConfigurationError: It has another major version, or is not a ledger.
        apsw.Error: It is not a database, or it cannot be read.
    """
    if size_of(beside(path, JOURNAL)):
        # To read it would already roll back what the journal holds. Of ours only a new file has one.
        marked = _number(header, _MARK_OFFSET) == APPLICATION_ID
        if _number(header, _PAGE_COUNT_OFFSET) > 1 and not marked:
            raise StoreConfigurationError(_FOREIGN.format(path))
    elif header and size_of(beside(path, WAL)):
        # Its mark may be in the log. A connection that only reads changes neither file.
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)) as one:
            one.set_busy_timeout(_BUSY_MS)
            one.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            format_of(one, path)


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def mark(connection: apsw.Connection, version: Format) -> None:
    """Record the format of a file, within the open transaction."""
    connection.pragma("user_version", version.major * _MINORS + version.minor)
    connection.pragma("application_id", APPLICATION_ID)
