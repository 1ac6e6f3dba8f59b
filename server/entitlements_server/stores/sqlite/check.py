"""Checks that a ledger file is intact and its tables agree with each other."""

from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import apsw

from entitlements_server.stores.interface import Finding

_SCHEMA = resources.files(__package__) / "sql" / "schema"
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
        yield from _check_schema(connection)
    except apsw.Error as error:
        yield Finding("", "", f"SQLite cannot read it: {error}")
    for check in sorted(_CHECKS.iterdir(), key=lambda one: one.name):
        if not check.name.endswith(".sql"):
            continue
        try:
            for user_id, sequence, what in connection.execute(check.read_text("utf-8")):
                nobody = "?" if sequence else ""
                yield Finding(user_id or nobody, str(sequence) if sequence else "", what)
        except (apsw.Error, UnicodeDecodeError) as error:
            name = check.name.removesuffix(".sql").partition("_")[2].replace("_", " ")
            yield Finding("", "", f"SQLite cannot read it to check {name}: {error}")
    try:
        yield from _check_feed(connection)
    except (apsw.Error, UnicodeDecodeError) as error:
        yield Finding("", "", f"SQLite cannot read it to check the change feed: {error}")


def _check_feed(connection: apsw.Connection) -> Iterator[Finding]:
    """Check that the change feed has all transactions of each user, in order. Keeps a number for each."""
    newest: dict[int, int] = {}
    wrong: set[int] = set()
    feed = connection.execute("SELECT account, sequence FROM changes ORDER BY position")
    for account, sequence in feed:
        if sequence != newest.get(account, 0) + 1:
            wrong.add(account)
        newest[account] = sequence
    accounts = connection.execute("SELECT number, user_id, transaction_count FROM accounts")
    for account, user_id, count in accounts:
        if account in wrong or newest.get(account, 0) != count:
            yield Finding(
                user_id, "", "the change feed lacks transactions of it, or has them out of order"
            )


def _check_schema(connection: apsw.Connection) -> Iterator[Finding]:
    """Check that the schema is that of this version; a newer one may have more tables and indexes."""
    with closing(apsw.Connection(":memory:")) as made:
        for step in sorted(_SCHEMA.iterdir(), key=lambda one: one.name):
            if step.name.endswith(".sql"):
                made.execute(step.read_text("utf-8"))
        expected = _objects_of(made)
    found = _objects_of(connection)
    for kind, name in sorted(expected - found):
        yield Finding("", "", f"its {kind} '{name}' is missing")
    for kind, name in sorted(found - expected):
        if kind in ("trigger", "view"):
            yield Finding("", "", f"it has a {kind} '{name}', which no version makes")


def _objects_of(connection: apsw.Connection) -> set[tuple[str, str]]:
    """Return the kinds and names of all tables, indexes, triggers and views."""
    return set(connection.execute("SELECT type, name FROM sqlite_schema"))
