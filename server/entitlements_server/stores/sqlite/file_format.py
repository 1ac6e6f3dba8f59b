"""What marks a file as a ledger, and which version of the format it has."""

from pathlib import Path

import apsw

from entitlements_server.stores.format import FORMAT, Format
from entitlements_server.stores.interface import StoreConfigurationError

APPLICATION_ID = 0x656E7431
"""Marks a file as a ledger: "ent1"."""

_MINORS = 1000
"""SQLite keeps one number for the version of a file: that of the major times this, and the minor."""

_OF_OLD_LEDGERS = "idempotency_keys"
"""A table that ledgers had before they had a mark."""


def format_of(connection: apsw.Connection, path: Path) -> Format | None:
    """Return the format of a ledger file, or None if there is nothing in the file yet.

    Raises:
        StoreConfigurationError: It is of another major version, or another program's.
    """
    application = connection.pragma("application_id")
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    if application == APPLICATION_ID:
        found = Format(*divmod(connection.pragma("user_version"), _MINORS))
        if not found.is_readable:
            raise StoreConfigurationError(
                f"The ledger {path} has format {found} and this program reads formats"
                f" {FORMAT.major}.x: run the version that wrote it. It was left as it is."
            )
        return found
    if _OF_OLD_LEDGERS in tables:
        raise StoreConfigurationError(
            f"The ledger {path} was written by a version of this program from before its first"
            " release, whose format is not read any more: name another file. It was left as it is."
        )
    if application or tables:
        raise StoreConfigurationError(
            f"The file {path} is the database of another program: name another file."
        )
    return None


def mark(connection: apsw.Connection, version: Format) -> None:
    """Note the format of a file, as part of the transaction that is open."""
    connection.pragma("user_version", version.major * _MINORS + version.minor)
    connection.pragma("application_id", APPLICATION_ID)
