"""Every statement on the ledger file. Blocking: call it from a thread of its own.

A statement takes and returns a whole group as JSON in one row. SQLite releases Python's global lock
at each step of a statement, and a busy event loop is slow to return it. So the number of steps counts:
one per group, not one per row.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from entitlements_server.ledger.encoding import (
    decode_account,
    decode_transaction,
    decode_transactions,
)
from entitlements_server.ledger.state import ReadSet, State
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.format import FORMAT, Format
from entitlements_server.stores.interface import (
    AccountPage,
    DamagedRecordError,
    Finding,
    LedgerIdentity,
    StoreConfigurationError,
)
from entitlements_server.stores.sqlite import companions
from entitlements_server.stores.sqlite.check import check_tables
from entitlements_server.stores.sqlite.codec import (
    ACCOUNT_ROW,
    UnreadableError,
    account_rows,
    array_of,
    check_account,
    key_rows,
    read_accounts,
    read_due,
    read_into,
    read_numbers,
    refund_rows,
    row_of,
    to_json,
    transaction_rows,
)
from entitlements_server.stores.sqlite.file_format import format_of, mark
from entitlements_server.stores.sqlite.memtable import POSITIONS_A_GROUP, Change

_SQL = resources.files(__package__) / "sql"
_CACHE_KIB = 64 * 1024
_BUSY_MS = 5000
_CLOSING_MS = 500
"""How long closing waits for other programs that read, so that one file is left."""

FAILURES = (apsw.Error, OSError, MemoryError)
"""After one of these it is unknown what is on disk and whether the connection still works."""

CHECKPOINT_PAGES = 250
"""Pages in the write-ahead log before a checkpoint: 1 MB. A checkpoint of this size delays a group by
little more than a sync. Larger, rarer ones cost the same in total but delay calls noticeably: see
docs/performance.md.
"""

_WAL_BYTES = 8 * 1024 * 1024
"""Size that the write-ahead log is cut to after a reader kept it from being used again from its start."""


@cache
def statement(name: str) -> str:
    """Return the statement of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text("utf-8")


def migrations() -> list[str]:
    """Return the steps of the schema, oldest first. Step n upgrades to minor version n."""
    names = (f"{FORMAT.major}.{minor}.sql" for minor in range(FORMAT.minor + 1))
    return [(_SQL / "schema" / name).read_text("utf-8") for name in names]


class Database:
    """A connection to a ledger file.

    Attributes:
        failed: Work on it has failed: it can only be closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        vfs: str | None = None,
    ) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        self.failed = False
        self._next_position = 0
        self._wal_pages = 0
        self._connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
        try:
            self._set_up(path, read_only=read_only)
        except BaseException:
            self.close()
            raise

    def _set_up(self, path: Path, *, read_only: bool) -> None:
        self._connection.set_busy_timeout(_BUSY_MS)
        self._connection.pragma("cache_size", -_CACHE_KIB)
        self._connection.pragma("temp_store", "memory")
        # SQLite does not report failures of automatic checkpoints, and a commit after a failed sync
        # would look durable. So all checkpoints are explicit. And a file that is refused stays as it is.
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        # No version makes a trigger. One that somebody made must not change what is recorded.
        self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        if read_only:
            return
        # Before any change: a file that this version cannot read must stay as it is.
        format_of(self._connection, path)
        # Where WAL is not possible, SQLite returns another mode and no error.
        if self._connection.pragma("journal_mode", "wal") != "wal":
            raise StoreConfigurationError(
                f"The ledger {path} is on a file system without shared memory: name a file on a"
                " local disk."
            )
        self._connection.pragma("synchronous", "full")
        self._connection.pragma("journal_size_limit", _WAL_BYTES)
        self._connection.set_wal_hook(self._count_pages)  # in place of automatic checkpoints

    def close(self, *, checkpoint: bool = False) -> None:
        """Close the connection, whatever state the disk is in.

        Args:
            checkpoint: Leave only one file, unless another program has it open. Not after a failure:
                what can be read from the log may not be on disk.
        """
        with suppress(apsw.Error):
            if checkpoint:
                self._checkpoint_and_remove_wal()
        with suppress(apsw.Error):
            self._connection.close()

    def _checkpoint_and_remove_wal(self) -> None:
        self._connection.set_busy_timeout(_CLOSING_MS)
        # Whoever keeps the log from being removed should at least find it empty.
        with suppress(apsw.BusyError):
            self.checkpoint()
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)

    def migrate(self, path: Path, steps: Sequence[str] | None = None) -> Format:
        """Upgrade the schema, each step whole or not at all.

        A file with a newer minor version is not changed.

        Returns:
            The format that the file has now.

        Raises:
            StoreConfigurationError: The file has another major version, or is not a ledger.
        """
        steps = migrations() if steps is None else steps
        found = format_of(self._connection, path)
        for minor in range(found.minor + 1 if found else 0, len(steps)):
            with self._connection:
                self._connection.execute(steps[minor])
                mark(self._connection, Format(FORMAT.major, minor))
        companions.sync_folder(path.parent)
        return max(found or FORMAT, Format(FORMAT.major, len(steps) - 1))

    def prefetch(self, read_set: ReadSet, state: State) -> dict[str, DamagedRecordError]:
        """Add what is stored of `read_set` to `state`, except that of damaged users.

        Returns:
            Why the damaged users, by id, could not be read. Nearly always empty.
        """
        found = State()
        try:
            row = self._one(
                statement("prefetch"),
                (to_json(read_set.users), to_json(read_set.keys), to_json(read_set.charges)),
            )
            read_into(found, *row)
        except FAILURES:
            raise
        except Exception as error:  # noqa: BLE001  # a row can be damaged in many ways
            halves = read_set.halves()
            if halves is None:
                return _damage_of(read_set, error)
            return {
                user_id: damaged
                for half in halves
                for user_id, damaged in self.prefetch(half, state).items()
            }
        state.update(found)
        return {}

    def append_log(self, stored: Sequence[bytes]) -> int:
        """Make a group durable. Returns its position in the commit log."""
        position = self.take_position(len(stored))
        self._connection.execute(
            "INSERT INTO commit_log (position, transactions) VALUES (?, ?)",
            (position, array_of(stored)),
        )
        return position

    def take_position(self, size: int) -> int:
        """Return an unused position in the commit log for a group of this size."""
        if not self._next_position:
            (logged,) = self._one("SELECT coalesce(max(position), 0) FROM commit_log", ())
            (changed,) = self._one("SELECT coalesce(max(position), 0) FROM changes", ())
            self._next_position = max(logged, changed // POSITIONS_A_GROUP) + 1
        position = self._next_position
        self._next_position += -(-size // POSITIONS_A_GROUP)
        return position

    def read_log(self) -> list[tuple[int, list[Transaction]]]:
        """Read all groups that may not be flushed yet, each with its position, in order."""
        return [
            (position, decode_transactions(rows))
            for position, rows in self._connection.execute(
                "SELECT position, transactions FROM commit_log ORDER BY position"
            )
        ]

    def flush(self, changes: Sequence[Change], state: State, damaged: Collection[str] = ()) -> None:
        """Write the next transactions of some users to the tables. Idempotent.

        Args:
            changes: Sorted by user and sequence, so that neighbours share pages.
            state: The state after the segment: due times. They may be ahead of the accounts until the
                last change is flushed; recovery sets them again.
            damaged: Users whose accounts stay as they are, because they cannot be read.
        """
        entries = [entry for _, entry in changes]
        accounts = {entry.account.user_id: entry.account for entry in entries}
        with self._connection:
            readable = [one for user_id, one in accounts.items() if user_id not in damaged]
            self._run("flush_accounts", account_rows(readable))
            numbers = self._numbers_of(list(accounts))
            rows = transaction_rows(changes, numbers)
            self._run("flush_transactions", rows, b"".join(one.stored for one in entries))
            self._run("flush_changes", rows)
            self._run("flush_keys", key_rows(entries, numbers))
            self._run("flush_refunds", refund_rows(entries, numbers))
            due = {user_id: state.due[user_id] for user_id in accounts.keys() & state.due.keys()}
            self._run("flush_due_times", [(numbers[user], due[user]) for user in due if due[user]])
            self._run("drop_due_times", [numbers[user] for user in due if not due[user]])

    def flush_unsynced(self, changes: Sequence[Change], state: State) -> None:
        """Flush without a sync: after a power loss it is repeated from the commit log."""
        self._connection.pragma("synchronous", "normal")
        try:
            self.flush(changes, state)
        finally:
            self._connection.pragma("synchronous", "full")

    def trim_log(self, position: int) -> None:
        """Delete the groups up to a position, all of which are flushed."""
        self._connection.execute("DELETE FROM commit_log WHERE position <= ?", (position,))

    def checkpoint(self) -> None:
        """Write everything committed to the main file, and sync it.

        Raises:
            apsw.BusyError: Another program is reading an older state. What it does not need was written.
        """
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def checkpoint_without_waiting(self) -> None:
        """Checkpoint as far as other programs that read allow."""
        self._connection.set_busy_timeout(0)
        try:
            with suppress(apsw.BusyError):
                self.checkpoint()
        finally:
            self._connection.set_busy_timeout(_BUSY_MS)

    def checkpoint_if_due(self) -> None:
        """Checkpoint if the write-ahead log is long, as far as other programs that read allow."""
        if self._wal_pages >= CHECKPOINT_PAGES:
            with suppress(apsw.BusyError):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _count_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def history(self, user_id: str, before: int, limit: int) -> list[Transaction]:
        """Read flushed transactions, newest first.

        Raises:
            DamagedRecordError: One of them cannot be decoded.
        """
        return self._transactions("history", user_id, before, limit)

    def history_after(self, user_id: str, after: int, limit: int) -> list[Transaction]:
        """Read flushed transactions, oldest first.

        Raises:
            DamagedRecordError: One of them cannot be decoded: the oldest such.
        """
        return self._transactions("history_after", user_id, after, limit)

    def _transactions(self, name: str, user_id: str, start: int, limit: int) -> list[Transaction]:
        try:
            (rows,) = self._one(statement(name), (user_id, start, limit))
            return decode_transactions(rows)
        except FAILURES:
            raise
        except Exception as error:
            after, before = (0, start) if name == "history" else (start, start + limit + 1)
            found = self._connection.execute(
                statement("history_rows"), (user_id, after, before, limit)
            ).fetchall()
            for sequence, stored in reversed(found):
                try:
                    decode_transaction(stored)
                except Exception as cause:  # noqa: BLE001  # a row can be damaged in many ways
                    raise _damaged(user_id, row_of(sequence), cause, sequence) from error
            raise _damaged(user_id, "a row of the table transactions", error) from error

    def due(self, until_us: int, limit: int) -> list[tuple[int, str]]:
        """Read flushed due times and their users, oldest first."""
        (rows,) = self._one(statement("due"), (until_us, limit))
        return read_due(rows)

    def newest_time_us(self) -> int:
        """Read when the newest flushed transaction was recorded; 0 if there is none that is readable."""
        found = self._connection.execute(statement("newest")).fetchone()
        try:
            return decode_transaction(found[0]).create_time_us if found else 0
        except Exception:  # noqa: BLE001  # a row can be damaged in many ways
            return 0

    def accounts(self, after: str, limit: int) -> AccountPage:
        """Read accounts in the order of user ids. The cursor is the last user id read."""
        try:
            (rows,) = self._one(statement("accounts"), (after, limit))
            page = read_accounts(rows)
        except FAILURES:
            raise
        except Exception:  # noqa: BLE001  # a row can be damaged in many ways
            return self._account_rows(after, limit)
        return AccountPage(page, page[-1].user_id if len(page) == limit else "")

    def _account_rows(self, after: str, limit: int) -> AccountPage:
        """Do the same row by row."""
        accounts: list[Account] = []
        damaged: list[DamagedRecordError] = []
        rows: list[Any] = self._connection.execute(
            statement("account_rows"), (after, limit)
        ).fetchall()
        user_id = ""
        for user, count, stored in rows:
            user_id = user.decode(errors="replace")
            try:
                account = decode_account(stored)
                check_account(user_id, count, account)
                accounts.append(account)
            except Exception as error:  # noqa: BLE001  # a row can be damaged in many ways
                damaged.append(_damaged(user_id, ACCOUNT_ROW, error))
        return AccountPage(accounts, user_id if len(rows) == limit else "", tuple(damaged))

    def identity(self) -> LedgerIdentity:
        """Read the identity of the ledger.

        Raises:
            DamagedRecordError: It has none.
        """
        row = self._connection.execute("SELECT id, generation FROM identity").fetchone()
        if row is None:
            raise DamagedRecordError("", "the row in the table identity", "it is missing")
        return LedgerIdentity(*row)

    def adopt(self, identity: LedgerIdentity) -> None:
        """Replace the identity of the ledger."""
        self._connection.execute(
            "UPDATE identity SET id = ?, generation = ?", (identity.id, identity.generation)
        )

    def check(self) -> list[Finding]:
        """Check that the tables agree with each other. Returns what is wrong."""
        return list(check_tables(self._connection))

    def ping(self) -> None:
        """Read a row, to prove that reading works."""
        self._one("SELECT count(*) FROM commit_log", ())

    def _run(self, name: str, rows: Sequence[Any], *more: bytes) -> None:
        if rows:
            self._connection.execute(statement(name), (to_json(rows), *more))

    def _numbers_of(self, users: Sequence[str]) -> dict[str, int]:
        """Return the numbers of some accounts, by user."""
        (numbers,) = self._one(statement("numbers"), (to_json(users),))
        return dict(zip(users, read_numbers(numbers), strict=True))

    def _one(self, sql: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        assert row is not None
        return row


def _damage_of(read_set: ReadSet, error: Exception) -> dict[str, DamagedRecordError]:
    """Return the damage of the one row that a read set needs."""
    for user_id in read_set.users:
        return {user_id: _damaged(user_id, ACCOUNT_ROW, error)}
    for user_id, key in read_set.keys:
        return {user_id: _damaged(user_id, f"the row that key '{key}' is bound to", error)}
    for user_id, sequence in read_set.charges:
        return {user_id: _damaged(user_id, row_of(sequence), error, sequence)}
    raise error


def _damaged(user_id: str, record: str, error: Exception, sequence: int = 0) -> DamagedRecordError:
    """Return the error about a row that could not be decoded."""
    problem = repr(error)
    if isinstance(error, UnreadableError):
        record, problem = error.record, error.problem
    damaged = DamagedRecordError(user_id, record, problem, sequence)
    damaged.__cause__ = error
    return damaged
