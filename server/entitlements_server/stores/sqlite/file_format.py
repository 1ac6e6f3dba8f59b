"""The mark of a ledger file, and the version of its format."""

from pathlib import Path

import apsw

from entitlements_server.stores.format import FORMAT, Format
from entitlements_server.stores.interface import StoreConfigurationError

APPLICATION_ID = 0x656E7431
"""The mark of a ledger file: "ent1"."""

_MINORS = 1000
"""SQLite stores one version number: the major times this, plus the minor."""

_UNMARKED_TABLE = "idempotency_keys"
"""A table of ledgers from before files had a mark."""


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
        raise StoreConfigurationError(
            f"The file {path} is a database of another program: name another file."
        )
    return None


def mark(connection: apsw.Connection, version: Format) -> None:
    """Record the format of a file, within the open transaction."""
    connection.pragma("user_version", version.major * _MINORS + version.minor)
    connection.pragma("application_id", APPLICATION_ID)
