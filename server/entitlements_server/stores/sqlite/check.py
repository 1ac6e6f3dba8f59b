"""Checks that a ledger file is intact and its tables agree with each other."""

from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import apsw

from entitlements_server.stores.interface import Finding

_CHECKS = resources.files(__package__) / "sql" / "check"


def check_file(path: Path) -> Iterator[Finding]:
    """Check the tables of a ledger file. Yields what is wrong.

    The commit log must have been flushed, which opening the store does.
    """
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        yield from check_tables(connection)


def check_tables(connection: apsw.Connection) -> Iterator[Finding]:
    """Check the tables of an open file. Yields what is wrong."""
    try:
        for (line,) in connection.execute("PRAGMA quick_check(100)"):
            if line != "ok":
                yield Finding("", "", f"SQLite reports damage: {line}")
    except apsw.Error as error:
        yield Finding("", "", f"SQLite cannot read it: {error}")
    for check in sorted(_CHECKS.iterdir(), key=lambda one: one.name):
        if not check.name.endswith(".sql"):
            continue
        try:
            for user_id, sequence, what in connection.execute(check.read_text("utf-8")):
                yield Finding(user_id or "?", str(sequence) if sequence else "", what)
        except (apsw.Error, UnicodeDecodeError) as error:
            name = check.name.removesuffix(".sql").partition("_")[2].replace("_", " ")
            yield Finding("", "", f"SQLite cannot read it to check {name}: {error}")
