"""Every statement that runs on the ledger file. Blocking: call it from a thread of its own.

A whole group goes in and out of a statement as JSON in one row. SQLite releases Python's global
lock at each step of a statement and a busy event loop is slow to give it back, so the number of
steps is what counts: one a group, not one a row.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from entitlements_server.ledger.state import ReadSet, State, account_after
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.sqlite.codec import (
    read_accounts,
    read_charges,
    read_transactions,
    to_json,
)

_SQL = resources.files(__package__) / "sql"
_CACHE_KIB = 64 * 1024
_BUSY_MS = 5000

CHECKPOINT_PAGES = 250
"""Of the write-ahead log, 1 MB: a checkpoint of so few holds a group up for little more than a
sync. Rarer ones, of more pages, cost as much in all and were felt: docs/performance.md.
"""


@cache
def statement(name: str) -> str:
    """Return the statement of `sql/<name>.sql`."""
    return (_SQL / f"{name}.sql").read_text("utf-8")


def migrations() -> list[str]:
    """Return the steps of the schema, oldest first. Step n leads to version n."""
    files = sorted((_SQL / "schema").iterdir(), key=lambda file: file.name)
    return [file.read_text("utf-8") for file in files if file.name.endswith(".sql")]


class Database:
    """A connection to a ledger file.

    Attributes:
        failed: Something went wrong on it: it is good for nothing but to be closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        vfs: str | None = None,
    ) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        if create:
            flags |= apsw.SQLITE_OPEN_CREATE
        self.failed = False
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
        if read_only:
            return
        # SQLite answers with another mode, and no error, where it cannot have this one.
        if self._connection.pragma("journal_mode", "wal") != "wal":
            raise StoreConfigurationError(
                f"The ledger {path} is on a file system that has no shared memory: name a file on"
                " a local disk."
            )
        self._connection.pragma("synchronous", "full")
        # SQLite keeps a failure of its own checkpoints to itself, and a commit after a failed sync
        # would be as if it were durable. So checkpoints are asked for, here and at closing.
        self._connection.set_wal_hook(self._count_pages)
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def close(self, *, checkpoint: bool = False) -> None:
        """Close the connection, whatever state the disk is in.

        Args:
            checkpoint: Leave one file only. Not after a failure: what can be read of the log may
                not be on the disk.
        """
        with suppress(apsw.Error):
            if checkpoint:
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            self._connection.close()

    def migrate(self, path: Path, steps: Sequence[str] | None = None) -> None:
        """Bring the schema up to date, each step whole or not at all.

        Raises:
            StoreConfigurationError: The file is of a newer version than this program knows, or
                another program's.
        """
        steps = migrations() if steps is None else steps
        version = self._connection.pragma("user_version")
        if version > len(steps):
            raise StoreConfigurationError(
                f"The ledger {path} has schema version {version} and this server knows versions up"
                f" to {len(steps)}: run the newer server that wrote it."
            )
        if not version and self._one("SELECT count(*) FROM sqlite_schema", ())[0]:
            raise StoreConfigurationError(
                f"The file {path} is the database of another program: name another file."
            )
        for number, step in enumerate(steps[version:], start=version + 1):
            with self._connection:
                self._connection.execute(step)
                self._connection.pragma("user_version", number)
        _sync_folder(path.parent)

    def prefetch(self, read_set: ReadSet, state: State) -> None:
        """Put what is stored of `read_set` into `state`."""
        accounts, keys, charges = self._one(
            statement("prefetch"),
            (to_json(read_set.users), to_json(read_set.keys), to_json(read_set.charges)),
        )
        for account in read_accounts(accounts):
            state.accounts[account.user_id] = account
        for bound in read_transactions(keys):
            state.keys[bound.user_id, bound.idempotency_key] = bound
        for named, refunded, last in read_charges(charges):
            state.charges[named.user_id, named.sequence] = Charge(named, refunded or 0, last)

    def append_log(self, transactions: Sequence[Transaction]) -> int:
        """Make a group durable. Returns its position in the commit log."""
        self._connection.execute(
            "INSERT INTO commit_log (transactions) VALUES (?)",
            (to_json(transactions),),
        )
        return self._connection.last_insert_rowid()

    def read_log(self) -> tuple[int, list[Transaction]]:
        """Read all groups that are not known to be flushed, and the position of the last."""
        position, transactions = 0, []
        for position, rows in self._connection.execute(  # noqa: B007  # the last one is wanted
            "SELECT position, transactions FROM commit_log ORDER BY position"
        ):
            transactions += read_transactions(rows)
        return position, transactions

    def flush(self, transactions: Sequence[Transaction], state: State) -> None:
        """Bring the tables up to date with the next transactions of some users. Idempotent.

        Args:
            transactions: Sorted by user and sequence, so that neighbours share pages. Of a user
                with refunds, all that there are.
            state: What these and later ones amount to: the accounts and the charges refunded.
        """
        newest = {transaction.user_id: transaction for transaction in transactions}
        accounts = [
            account_after(state.accounts[user_id], transaction)
            for user_id, transaction in newest.items()
        ]
        keys = [
            (transaction.user_id, transaction.idempotency_key, transaction.sequence)
            for transaction in transactions
            if transaction.binds_key
        ]
        refunds = []
        for transaction in transactions:
            if transaction.refunded_transaction_id:
                charge = state.charge(transaction.user_id, transaction.refunded_transaction_id)
                assert charge is not None
                assert charge.last_refund is not None
                refunds.append(
                    (
                        transaction.user_id,
                        charge.transaction.sequence,
                        charge.refunded,
                        charge.last_refund.sequence,
                    )
                )
        with self._connection:
            self._run("flush_accounts", accounts)
            self._run("flush_transactions", transactions)
            self._run("flush_keys", keys)
            self._run("flush_refunds", refunds)

    def flush_unsynced(self, transactions: Sequence[Transaction], state: State) -> None:
        """Do what `flush` does, without a sync: the commit log can repeat it after a power loss."""
        self._connection.pragma("synchronous", "normal")
        try:
            self.flush(transactions, state)
        finally:
            self._connection.pragma("synchronous", "full")

    def trim_log(self, position: int) -> None:
        """Drop the groups up to a position: all of them are flushed."""
        self._connection.execute("DELETE FROM commit_log WHERE position <= ?", (position,))

    def checkpoint(self) -> None:
        """Write everything that is committed into the main file, and sync it."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def checkpoint_if_due(self) -> None:
        """Write the log back when it has grown long."""
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _count_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def history(self, user_id: str, before: int, limit: int) -> list[Transaction]:
        """Read flushed transactions, newest first."""
        (rows,) = self._one(statement("history"), (user_id, before, limit))
        return read_transactions(rows)

    def accounts(self, after: str, limit: int) -> list[Account]:
        """Read accounts in the order of their ids."""
        (rows,) = self._one(statement("accounts"), (after, limit))
        return read_accounts(rows)

    def ping(self) -> None:
        """Read something."""
        self._one("SELECT count(*) FROM commit_log", ())

    def _run(self, name: str, rows: Sequence[Any]) -> None:
        if rows:
            self._connection.execute(statement(name), (to_json(rows),))

    def _one(self, sql: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
        assert row is not None
        return row


def _sync_folder(folder: Path) -> None:
    """Make the names of new files survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
