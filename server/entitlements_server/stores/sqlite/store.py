"""The SQLite store: the port, on one writing and one reading thread.

Only the event loop changes what is in memory, and only after the writing thread has made it
durable. A group is decided on the writing thread, on a state that was put together for it alone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

import apsw

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import Needs, State, check_next, decide_group, recorded
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.port import (
    AccountPage,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.lock import FileLock
from entitlements_server.stores.sqlite.tail import Tail

_Result = TypeVar("_Result")

GENERATION_SIZE = 4096
"""Transactions that wait in the journal before they are indexed together."""

SLICE_SIZE = 256
"""Transactions indexed at a time, at least: what a group may have to wait for."""

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 30 MB: reading one of them needs no disk."""


class SqliteStore:
    """A ledger file. Make one with `open`."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._path = path
        self._vfs = vfs
        self._lock = FileLock(path)
        self._writing = ThreadPoolExecutor(1, "ledger-write")
        self._reading = ThreadPoolExecutor(1, "ledger-read")
        self._writer: Database | None = None
        self._reader: Database | None = None
        self._turn = asyncio.Lock()
        self._tail = Tail()
        self._cache: OrderedDict[str, Account] = OrderedDict()
        self._epoch = 0
        self._slicing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, *, vfs: str | None = None) -> Self:
        """Open a ledger file, or make one.

        Args:
            path: Absolute path of the file; its folder must exist.
            vfs: Name of the apsw VFS to use, for injecting faults.

        Raises:
            StoreConfigurationError: The file cannot be used; the message says what to do.
        """
        store = cls(path, vfs)
        try:
            await store._run(store._writing, store._recover)
        except (StoreUnavailableError, StoreConfigurationError) as error:
            await store.close()
            if isinstance(error, StoreConfigurationError):
                raise
            raise StoreConfigurationError(
                f"The ledger {path} cannot be opened: it is not a ledger, it is damaged, or its"
                f" disk is failing ({error.__cause__})."
            ) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """See the port."""
        # What the thread has made durable must reach the memory, whoever still waits for it.
        return await asyncio.shield(asyncio.ensure_future(self._commit(commands, rule)))

    async def account(self, user_id: str) -> Account:
        """See the port."""
        account = self._known_account(user_id)
        if account is None:
            epoch = self._epoch
            state = State()
            needs = Needs(frozenset((user_id,)), frozenset(), frozenset())
            await self._read(lambda database: database.load(needs, state))
            account = state.account(user_id)
            # A commit may have gone by; the account is as of this call's begin, but old now.
            if epoch == self._epoch and not self._known_account(user_id):
                self._remember(account)
        return account

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See the port."""
        if charge := self._tail.charge((user_id, sequence)):
            return charge.transaction
        found = await self._read(lambda database: database.history(user_id, sequence + 1, 1))
        return found[0] if found and found[0].sequence == sequence else None

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See the port."""
        # The tail first: what leaves it in the meantime is in the tables by then.
        newest = self._tail.history(user_id, before, limit)
        below = newest[-1].sequence if newest else before
        rest = limit - len(newest)
        if not rest or below <= 1:
            return newest
        return newest + await self._read(lambda database: database.history(user_id, below, rest))

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See the port. The cursor is the last user id read."""
        async with self._turn:
            await self._index_all()
            page = await self._run(
                self._writing, lambda: self._open_writer().accounts(cursor, limit)
            )
        return AccountPage(page, page[-1].user_id if len(page) == limit else "")

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See the port."""
        async with self._turn:
            await self._index_all()
            await self._run(self._writing, lambda: self._append(transactions))
            self._cache.clear()
            self._epoch += 1

    async def ping(self) -> None:
        """See the port."""
        await self._read(lambda database: database.ping())

    async def close(self) -> None:
        """See the port."""
        async with self._turn:
            try:
                if self._writer is not None:
                    await self._index_all()
            except StoreUnavailableError:
                pass  # It is in the journal; the next start will index it.
            finally:
                self._close_databases()
                self._writing.shutdown()
                self._reading.shutdown()
                self._lock.release()

    async def _commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        async with self._turn:
            if self._writer is None:
                await self._reopen()
            state = State()
            needs = self._tail.load(Needs.of(commands), state)
            cached = {user_id for user_id in needs.users if user_id in self._cache}
            state.accounts.update((user_id, self._cache[user_id]) for user_id in cached)
            needs = Needs(needs.users - cached, needs.keys, needs.charges)
            outcomes, position = await self._run(
                self._writing, lambda: self._decide(commands, rule, state, needs)
            )
            transactions = recorded(outcomes)
            if transactions:
                self._tail.growing.take_in(transactions, state, position)
                for transaction in transactions:
                    self._remember(state.accounts[transaction.user_id])
                self._index_some(2 * len(transactions))
            return outcomes

    def _decide(
        self, commands: Sequence[Command], rule: Rule, state: State, needs: Needs
    ) -> tuple[list[Outcome], int]:
        database = self._open_writer()
        if needs.users or needs.keys or needs.charges:
            database.load(needs, state)
        outcomes = decide_group(state, commands, rule)
        transactions = recorded(outcomes)
        return outcomes, database.write_journal(transactions) if transactions else 0

    def _append(self, transactions: Sequence[Transaction]) -> None:
        database = self._open_writer()
        state = State()
        database.load(Needs.of_transactions(transactions), state)
        check_next(state, transactions)
        for transaction in transactions:
            state.apply(transaction)
        ordered = sorted(transactions, key=lambda one: (one.user_id, one.sequence))
        database.index(ordered, state)

    def _index_some(self, size: int) -> None:
        """Index a slice behind the next group, if a generation is due."""
        tail = self._tail
        if tail.indexing is None and len(tail.growing.transactions) >= GENERATION_SIZE:
            tail.rotate()
        idle = self._slicing is None or self._slicing.done()
        if tail.indexing is not None and idle:
            self._slicing = asyncio.ensure_future(self._index_slice(max(size, SLICE_SIZE)))

    async def _index_slice(self, size: int) -> None:
        generation = self._tail.indexing
        assert generation is not None
        transactions = generation.take_slice(size)
        last = not generation.transactions

        def work() -> None:
            database = self._open_writer()
            database.index_later(transactions, generation.state)
            if last:
                database.trim_journal(generation.position)

        try:
            await self._run(self._writing, work)
        except StoreUnavailableError:
            return  # The next commit opens the file again, which indexes the whole journal.
        if last and self._tail.indexing is generation:
            self._tail.indexing = None
            self._epoch += 1

    async def _index_all(self) -> None:
        """Bring the tables up to date. The caller holds the turn."""
        if self._writer is None:
            await self._reopen()
        while True:
            if self._slicing is not None:
                await self._slicing
                self._slicing = None
            if self._writer is None:
                raise StoreUnavailableError("The journal could not be indexed.")
            if self._tail.indexing is None:
                if not self._tail.growing.transactions:
                    return
                self._tail.rotate()
            self._slicing = asyncio.ensure_future(self._index_slice(GENERATION_SIZE))

    async def _reopen(self) -> None:
        """Open the file again after a failure. All that was acknowledged is in the journal."""
        await self._run(self._writing, self._recover)
        self._tail = Tail()
        self._cache.clear()
        self._epoch += 1

    def _recover(self) -> None:
        """Open the file and index what the journal still holds."""
        database = Database(self._path, vfs=self._vfs)
        try:
            database.migrate(self._path)
            # After a failed sync the disk may hold less than the page cache shows: write it anew.
            database.checkpoint()
            position, transactions = database.read_journal()
            state = State()
            database.load(Needs.of_transactions(transactions), state)
            fresh = [
                transaction
                for transaction in transactions
                if transaction.sequence > state.account(transaction.user_id).transaction_count
            ]
            for transaction in fresh:
                state.apply(transaction)
            fresh.sort(key=lambda one: (one.user_id, one.sequence))
            database.index(fresh, state)
            database.trim_journal(position)
            self._reader = Database(self._path, read_only=True, vfs=self._vfs)
        except BaseException:
            database.close()
            raise
        self._writer = database

    def _open_writer(self) -> Database:
        if self._writer is None:
            raise StoreUnavailableError("The ledger file is closed after a failure.")
        return self._writer

    async def _read(self, work: Callable[[Database], _Result]) -> _Result:
        if self._reader is None:
            async with self._turn:
                if self._reader is None:
                    await self._reopen()
        reader = self._reader
        assert reader is not None
        return await self._run(self._reading, lambda: work(reader))

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except apsw.Error as error:
            if thread is self._writing:
                self._close_databases()
            raise StoreUnavailableError("The ledger file could not be read or written.") from error

    def _close_databases(self) -> None:
        """Close both connections, each behind what its thread is doing."""
        if self._writer is not None:
            self._writing.submit(self._writer.close)
        if self._reader is not None:
            self._reading.submit(self._reader.close)
        self._writer = self._reader = None

    def _known_account(self, user_id: str) -> Account | None:
        return self._cache.get(user_id) or self._tail.account(user_id)

    def _remember(self, account: Account) -> None:
        self._cache[account.user_id] = account
        self._cache.move_to_end(account.user_id)
        if len(self._cache) > CACHED_ACCOUNTS:
            self._cache.popitem(last=False)
