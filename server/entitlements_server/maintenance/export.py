"""Exports the audit trail: every transaction of every user, oldest first, as JSON Lines or CSV.

`FILE.progress`, next to the file, records how much of it is complete. An interrupted export resumes
from there. It is deleted at the end.

A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@` or a control character as a formula, and callers
write reasons and ids. So in CSV such a text gets an apostrophe in front, unless exactly what is stored is asked
for. What is a list or an object in JSON, as draws and labels are, is that JSON in CSV, or empty.
"""

import csv
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.maintenance.paging import account_pages, count_transactions, oldest_first
from entitlements_server.maintenance.rows import COLUMNS, Filters, row_of
from entitlements_server.stores.interface import Progress, Store, silent

Format = Literal["jsonl", "csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class ExportError(ConfigurationError):
    """The export failed or cannot be resumed; the message says why."""


@dataclass(slots=True)
class Checkpoint:
    """How much of an export is complete.

    Attributes:
        request: The source, format and filters. They must be the same when resuming.
        cursor: The cursor of the next page of accounts.
        size: Size of the file up to there, in bytes.
        rows: Transactions written up to there.
        read: Transactions read up to there.
    """

    request: dict[str, Any]
    cursor: str = ""
    size: int = 0
    rows: int = 0
    read: int = 0


@dataclass(slots=True)
class Export:
    """An export to a file.

    Attributes:
        store: The ledger to read.
        source: The store's URL without secrets, to compare when resuming.
        target: The file to write.
        form: The format.
        filters: Which transactions to export.
        progress: Reports transactions read.
        exact: Whether CSV has texts exactly as stored, formulas included.
    """

    store: Store
    source: str
    target: Path
    form: Format
    filters: Filters = field(default_factory=Filters)
    progress: Progress = silent
    exact: bool = False

    async def write_to(self, stream: BinaryIO) -> int:
        """Write to a stream instead of the file. Such an export cannot be resumed.

        Returns:
            The number of transactions written.

        Raises:
            OSError: The stream cannot be written.
        """
        checkpoint = Checkpoint(self._request())
        self._write_header(stream)
        if self.filters.user_id:
            account = await self.store.account(self.filters.user_id)
            checkpoint.rows += await self._write(stream, [account], checkpoint, 0)
        else:
            total = await count_transactions(self.store)
            async for page in account_pages(self.store, ""):
                checkpoint.rows += await self._write(stream, page.accounts, checkpoint, total)
        stream.flush()
        return checkpoint.rows

    async def run(self, *, resume: bool = False) -> int:
        """Write the file.

        Args:
            resume: Whether to continue an interrupted export.

        Returns:
            The number of transactions in the file.

        Raises:
            ExportError: The file exists, or there is nothing to resume, or it is another export.
        """
        checkpoint = self._begin(resume=resume)
        try:
            with self.target.open("r+b") as file:
                file.truncate(checkpoint.size)
                file.seek(checkpoint.size)
                if not checkpoint.size:
                    self._write_header(file)
                if self.filters.user_id:
                    account = await self.store.account(self.filters.user_id)
                    checkpoint.rows += await self._write(file, [account], checkpoint, 0)
                    _sync(file)
                else:
                    await self._write_all(file, checkpoint)
        except OSError as error:
            raise ExportError(f"{self.target} cannot be written: {error.strerror}.") from error
        self._progress_file.unlink(missing_ok=True)
        return checkpoint.rows

    @property
    def _progress_file(self) -> Path:
        return self.target.with_name(self.target.name + ".progress")

    def _request(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "form": self.form,
            "filters": self.filters.as_json(),
            "exact": self.exact,
        }

    def _begin(self, *, resume: bool) -> Checkpoint:
        if resume:
            return self._resume()
        try:
            self.target.touch(mode=0o600, exist_ok=False)
        except FileExistsError as error:
            raise ExportError(
                f"{self.target} already exists: choose another name, or add --resume to continue an"
                " interrupted export."
            ) from error
        except OSError as error:
            raise ExportError(f"{self.target} cannot be written: {error.strerror}.") from error
        checkpoint = Checkpoint(self._request())
        self._save(checkpoint)
        return checkpoint

    def _resume(self) -> Checkpoint:
        try:
            saved = Checkpoint(**json.loads(self._progress_file.read_text("utf-8")))
            size = self.target.stat().st_size
        except (OSError, ValueError, TypeError) as error:
            raise ExportError(
                f"There is nothing to resume: there is no {self._progress_file}, which is kept until"
                " an export is complete. Export without --resume."
            ) from error
        if saved.request != self._request() or size < saved.size:
            raise ExportError(
                f"{self.target} is another export: resume it with the store, format and filters that"
                " it was started with."
            )
        return saved

    def _save(self, checkpoint: Checkpoint) -> None:
        content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
        fresh = self._progress_file.with_name(self._progress_file.name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(content), "utf-8")
        fresh.replace(self._progress_file)

    async def _write_all(self, file: BinaryIO, checkpoint: Checkpoint) -> None:
        total = await count_transactions(self.store)
        async for page in account_pages(self.store, checkpoint.cursor):
            checkpoint.rows += await self._write(file, page.accounts, checkpoint, total)
            checkpoint.cursor = page.next_cursor
            if page.next_cursor:
                # Sync the file before the checkpoint that refers to it.
                _sync(file)
                checkpoint.size = file.tell()
                self._save(checkpoint)
        _sync(file)

    async def _write(
        self, file: BinaryIO, accounts: Iterable[Account], checkpoint: Checkpoint, total: int
    ) -> int:
        rows = 0
        for account in accounts:
            async for transaction in oldest_first(self.store, account):
                checkpoint.read += 1
                if self.filters.match(transaction):
                    file.write(self._line(transaction))
                    rows += 1
            self.progress(checkpoint.read, max(total, checkpoint.read))
        return rows

    def _write_header(self, file: BinaryIO) -> None:
        if self.form == "csv":
            file.write(_csv([list(COLUMNS)]))

    def _line(self, transaction: Transaction) -> bytes:
        row = row_of(transaction)
        if self.form == "csv":
            values = map(_cell, row.values())
            return _csv([list(values if self.exact else map(_harmless, values))])
        return f"{_json(row)}\n".encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value) if value else ""
    return value


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _csv(rows: Iterable[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
