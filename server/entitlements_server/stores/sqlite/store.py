"""The SQLite store: the port, on a connection that writes and one that reads.

Only the event loop changes what is in memory, and only after the writing thread has made it
durable. A group is decided on the writing thread, on a state that was put together for it alone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import structlog

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import Needs, State, recorded
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.port import (
    AccountPage,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.sqlite.connections import Connections
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.tail import Tail
from entitlements_server.stores.sqlite.writing import append, decide_and_write

_log = structlog.get_logger()
_Result = TypeVar("_Result")

GENERATION_SIZE = 16_384
"""Transactions that wait in the journal before they are indexed together, about 20 MB in memory.

The more, the more of them share a page of the tables: see docs/performance.md.
"""

SLICE_SIZE = 16
"""Transactions indexed at a time, at least: what a group may have to wait for."""

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 30 MB: reading one of them needs no disk."""


class SqliteStore:
    """A ledger file. Make one with `open`."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._connections = Connections(path, vfs)
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
            await store._connections.open(create=True)
        except BaseException as error:
            await store.close()
            if isinstance(error, StoreConfigurationError) or not isinstance(error, Exception):
                raise
            raise StoreConfigurationError(
                f"The ledger {path} cannot be opened: it is not a ledger, it is damaged, or its"
                f" disk is failing ({error.__cause__ or error!r})."
            ) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """See the port."""
        return await self._in_turn(lambda: self._commit(commands, rule))

    async def account(self, user_id: str) -> Account:
        """See the port."""
        account = self.known_account(user_id)
        if account is None:
            epoch = self._epoch
            state = State()
            needs = Needs(frozenset((user_id,)), frozenset(), frozenset())
            await self._read(lambda database: database.load(needs, state))
            account = state.account(user_id)
            # A commit may have gone by; the account is as of this call's begin, but old now.
            if epoch == self._epoch and not self.known_account(user_id):
                self._remember(account)
        return account

    def known_account(self, user_id: str) -> Account | None:
        """See the port."""
        return self._cache.get(user_id) or self._tail.account(user_id)

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

        async def read() -> list[Account]:
            await self._index_all()
            return await self._connections.write(lambda database: database.accounts(cursor, limit))

        page = await self._in_turn(read)
        return AccountPage(page, page[-1].user_id if len(page) == limit else "")

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See the port."""

        async def write() -> None:
            await self._index_all()
            await self._connections.write(lambda database: append(database, transactions))
            self._cache.clear()
            self._epoch += 1

        await self._in_turn(write)

    async def ping(self) -> None:
        """See the port."""
        await self._read(lambda database: database.ping())

    async def close(self) -> None:
        """See the port."""
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        async with self._turn:
            if self._connections.is_closed:
                return
            await self._slice_done()
            try:
                if self._connections.is_open:
                    await self._index_all()
            except StoreUnavailableError:
                pass  # It is in the journal; the next start will index it.
            finally:
                await self._connections.close()

    async def _in_turn(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do `work` on the open file, and nothing else that writes meanwhile.

        It completes even if its caller is cancelled: what the thread has made durable must reach
        the memory, whoever still waits for it.
        """

        async def alone() -> _Result:
            async with self._turn:
                if not self._connections.is_open:
                    await self._reopen()
                return await work()

        task = asyncio.ensure_future(alone())
        # If the caller has gone, nobody is left to be told of a failure.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        state = State()
        needs = self._tail.load(Needs.of(commands), state)
        cached = {user_id for user_id in needs.users if user_id in self._cache}
        state.accounts.update((user_id, self._cache[user_id]) for user_id in cached)
        needs = Needs(needs.users - cached, needs.keys, needs.charges)
        outcomes, position = await self._connections.write(
            lambda database: decide_and_write(database, commands, rule, state, needs)
        )
        transactions = recorded(outcomes)
        if transactions:
            self._tail.growing.take_in(transactions, state, position)
            for transaction in transactions:
                self._remember(state.accounts[transaction.user_id])
            self._index_some(2 * len(transactions))
        return outcomes

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
        if generation is None or not self._connections.is_open:
            return
        transactions = generation.take_slice(size)
        last = generation.is_sliced

        def work(database: Database) -> None:
            database.index_later(transactions, generation.state)
            if last:
                database.trim_journal(generation.position)
            database.checkpoint_if_due()

        try:
            await self._connections.write(work)
        except Exception:  # noqa: BLE001  # whatever it was, the slice has to come back
            _log.warning("Indexing failed: the ledger file is opened again.", exc_info=True)
            # The slice is off the generation and not in the tables. Opening the file again, which
            # the next call does, indexes the whole journal.
            self._connections.drop()
            return
        if last:
            self._tail.indexing = None
            self._epoch += 1

    async def _index_all(self) -> None:
        """Bring the tables up to date. The caller holds the turn."""
        while True:
            await self._slice_done()
            if not self._connections.is_open:
                raise StoreUnavailableError("The journal could not be indexed.")
            if self._tail.indexing is None:
                if not self._tail.growing.transactions:
                    return
                self._tail.rotate()
            self._slicing = asyncio.ensure_future(self._index_slice(GENERATION_SIZE))

    async def _slice_done(self) -> None:
        if self._slicing is not None:
            await self._slicing
            self._slicing = None

    async def _reopen(self) -> None:
        """Open the file again after a failure. All that was acknowledged is in the journal.

        The caller holds the turn.
        """
        # A slice of the old journal must not meet the new one, whose positions begin anew.
        await self._slice_done()
        try:
            # Without making a file: where the ledger is gone, an empty one must not take its place.
            await self._connections.open()
        except StoreUnavailableError:
            raise
        except Exception as error:
            raise StoreUnavailableError("The ledger file could not be opened again.") from error
        self._tail = Tail()
        self._cache.clear()
        self._epoch += 1

    async def _read(self, work: Callable[[Database], _Result]) -> _Result:
        if not self._connections.is_open:
            await self._in_turn(_nothing)
        return await self._connections.read(work)

    def _remember(self, account: Account) -> None:
        self._cache[account.user_id] = account
        self._cache.move_to_end(account.user_id)
        if len(self._cache) > CACHED_ACCOUNTS:
            self._cache.popitem(last=False)


async def _nothing() -> None:
    """Work for a turn that is only taken to have the file open."""
