"""The SQLite store: the interface, on a writing and a reading connection.

Only the event loop changes the memtable, and only after the writing thread has made a group durable.
A group is decided on the writing thread, on a state of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Self, TypeVar

import apsw
import structlog

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import ReadSet, State
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores.account_cache import AccountCache
from entitlements_server.stores.interface import (
    AccountPage,
    CommandResult,
    DamagedLedgerError,
    DamagedRecordError,
    Finding,
    LedgerIdentity,
    StoreConfigurationError,
    StoreInUseError,
    StoreUnavailableError,
)
from entitlements_server.stores.sqlite.codec import row_of
from entitlements_server.stores.sqlite.companions import is_full
from entitlements_server.stores.sqlite.connections import Connections
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.memtable import Memtable
from entitlements_server.stores.sqlite.writer import append, commit, prefetch

_log = structlog.get_logger()
_Result = TypeVar("_Result")

SEGMENT_SIZE = 16_384
"""Transactions in a segment before it is sealed and flushed, about 20 MB in memory.

In a larger segment more transactions share a page of the tables: see docs/performance.md.
"""

MIN_FLUSH_SIZE = 16
"""Minimum number of transactions per flush. A group may have to wait for one flush."""

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 55 MB. Reading one of them needs no disk access."""


class SqliteStore:
    """A ledger file. Create it with `open`."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._connections = Connections(path, vfs)
        self._lock = asyncio.Lock()
        self._memtable = Memtable()
        self._cache = AccountCache[Account](CACHED_ACCOUNTS)
        self._epoch = 0
        self._flushing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, *, vfs: str | None = None) -> Self:
        """Open a ledger file, or create one.

        Args:
            path: Absolute path of the file; its folder must exist.
            vfs: Name of the apsw VFS to use; tests inject faults with it.

        Raises:
            StoreConfigurationError: The file cannot be used; the message says what to do.
        """
        store = cls(path, vfs)
        try:
            await store._connections.open()
            if store._connections.is_new:
                identity = await store.identity()
                _log.info("A new ledger was made.", file=str(path), id=identity.id)
        except BaseException as error:
            await store.close()
            if isinstance(error, StoreConfigurationError) or not isinstance(error, Exception):
                raise
            raise _unusable(path, error.__cause__ or error) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        """See Store."""
        return await self._exclusively(lambda: self._commit(commands, rule))

    async def account(self, user_id: str) -> Account:
        """See Store."""
        account = self.known_account(user_id)
        if account is None:
            epoch = self._epoch
            state = State()
            read_set = ReadSet(frozenset((user_id,)), frozenset(), frozenset())
            damaged = await self._read(lambda database: database.prefetch(read_set, state))
            if damaged:
                raise damaged[user_id]
            account = state.account(user_id)
            # Not if there was a commit meanwhile: the account would be outdated.
            if epoch == self._epoch and not self.known_account(user_id):
                self._cache.put(user_id, account)
        return account

    def known_account(self, user_id: str) -> Account | None:
        """See Store."""
        return self._memtable.account(user_id) or self._cache.get(user_id)

    async def bound(self, user_id: str, names: Collection[str]) -> Mapping[str, Charge]:
        """See Store."""
        # The memtable first: what leaves it meanwhile is in the tables by then.
        newest_charge = self._memtable.newest_charge
        state = State()
        keys = frozenset((user_id, name) for name in names)
        read_set = self._memtable.prefetch(ReadSet(frozenset(), keys, frozenset()), state)
        if read_set.keys:
            damaged = await self._read(
                lambda database: prefetch(database, read_set, state, newest_charge)
            )
            if damaged:
                raise damaged[user_id]
        return {
            name: state.charges[user_id, bound.sequence] for (_, name), bound in state.keys.items()
        }

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See Store."""
        if charge := self._memtable.charge((user_id, sequence)):
            return charge.transaction
        found = await self._read(lambda database: database.history(user_id, sequence + 1, 1))
        if found and found[0].sequence == sequence:
            return found[0]
        if 1 <= sequence <= (await self.account(user_id)).transaction_count:
            raise DamagedRecordError(
                user_id, row_of(sequence), "it is missing, or has another sequence", sequence
            )
        return None

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        # The memtable first: what leaves it meanwhile is in the tables by then.
        newest = self._memtable.history(user_id, before, limit)
        below = newest[-1].sequence if newest else before
        rest = limit - len(newest)
        if not rest or below <= 1:
            return newest
        return newest + await self._read(lambda database: database.history(user_id, below, rest))

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        # The memtable first: what leaves it meanwhile is in the tables by then.
        newest = self._memtable.history(user_id, after + limit + 1, limit)
        if len(newest) < limit:
            below = newest[-1].sequence if newest else after + limit + 1
            flushed = await self._read(
                lambda database: database.history_after(user_id, after, limit)
            )
            newest += [one for one in reversed(flushed) if one.sequence < below]
        newest.reverse()
        return [one for one in newest if one.sequence > after]

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """See Store."""
        # The memtable first: what leaves it meanwhile is in the tables by then.
        newest = self._memtable.due()
        due = [(at, user) for user, at in newest.items() if 0 < at <= until_us]
        size = limit
        while True:
            flushed = await self._read(partial(Database.due, until_us=until_us, limit=size))
            # Of these the table has an older time.
            unchanged = [one for one in flushed if one[1] not in newest]
            if len(flushed) < size or len(unchanged) >= limit:
                return [user_id for _, user_id in nsmallest(limit, due + unchanged)]
            size *= 4

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See Store. The cursor is the last user id read."""

        async def read() -> AccountPage:
            await self._flush_all()
            return await self._connections.write(lambda database: database.accounts(cursor, limit))

        return await self._exclusively(read)

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See Store."""

        async def write() -> None:
            await self._flush_all()
            await self._connections.write(lambda database: append(database, transactions))
            self._cache.clear()
            self._epoch += 1

        await self._exclusively(write)

    async def time_us(self) -> int | None:
        """See Store."""
        return None

    async def newest_time_us(self) -> int:
        """See Store."""
        changes = self._memtable.active.changes
        if changes:
            return changes[-1][1].transaction.create_time_us
        return await self._read(Database.newest_time_us)

    async def identity(self) -> LedgerIdentity:
        """See Store."""
        return await self._read(lambda database: database.identity())

    async def adopt(self, identity: LedgerIdentity) -> None:
        """See Store."""
        await self._exclusively(
            lambda: self._connections.write(lambda database: database.adopt(identity))
        )

    async def self_check(self) -> Sequence[Finding]:
        """See SupportsSelfCheck."""
        await self._exclusively(self._flush_all)
        return await self._connections.read(lambda database: database.check())

    async def ping(self) -> None:
        """See Store."""
        if self._connections.is_open and self._connections.is_in_place:
            await self._read(lambda database: database.ping())
        else:
            # Whatever is wrong, the next write would meet it.
            await self._exclusively(
                lambda: self._connections.write(lambda database: database.ping())
            )

    async def close(self) -> None:
        """See Store."""
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        async with self._lock:
            if self._connections.is_closed:
                return
            await self._flush_finished()
            try:
                if self._connections.is_open:
                    await self._flush_all()
            except StoreUnavailableError:
                pass  # It is in the commit log; the next start flushes it.
            finally:
                await self._connections.close()

    async def _exclusively(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do `work` on the open file, with no other write at the same time.

        It completes even if the caller is cancelled: what the thread has made durable must reach the
        memtable.
        """

        async def alone() -> _Result:
            async with self._lock:
                if not self._connections.is_open:
                    await self._reopen()
                return await work()

        task = asyncio.ensure_future(alone())
        # If the caller was cancelled, nobody else retrieves the exception.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        state = State()
        read_set = self._memtable.prefetch(self._with_accounts(ReadSet.of(commands), state), state)
        newest_charge = self._memtable.newest_charge
        done = await self._connections.write(
            lambda database: commit(
                database, commands, rule, state, read_set, newest_charge=newest_charge
            )
        )
        if done.entries:
            try:
                self._memtable.active.add(done.entries, state, done.position)
                self._flush_if_due(2 * len(done.entries))
            except Exception as error:
                # It is durable, and any other error says that nothing was stored. The next call opens the
                # file again and finds it in the commit log.
                self._connections.drop()
                raise StoreUnavailableError(
                    "A durable group could not be kept in memory."
                ) from error
        return done.results

    def _with_accounts(self, read_set: ReadSet, state: State) -> ReadSet:
        """Add the accounts that are in memory to `state`, and return the rest of the read set."""
        missing = self._memtable.prefetch_accounts(read_set.users, state)
        found = {user_id: self._cache.get(user_id) for user_id in missing}
        state.accounts.update({user: account for user, account in found.items() if account})
        rest = missing - state.accounts.keys()
        return ReadSet(rest, read_set.keys, read_set.charges, read_set.windows).narrowed(
            state.accounts.get
        )

    def _flush_if_due(self, size: int) -> None:
        """Flush a batch, if a segment is sealed or large enough to be."""
        memtable = self._memtable
        if memtable.sealed is None and len(memtable.active.changes) >= SEGMENT_SIZE:
            memtable.seal()
        idle = self._flushing is None or self._flushing.done()
        if memtable.sealed is not None and idle:
            self._flushing = asyncio.ensure_future(self._flush_batch(max(size, MIN_FLUSH_SIZE)))

    async def _flush_batch(self, size: int) -> None:
        segment = self._memtable.sealed
        if segment is None or not self._connections.is_open:
            return
        changes = segment.take_batch(size)
        last = segment.is_drained

        def work(database: Database) -> None:
            database.flush_unsynced(changes, segment.state)
            if last:
                database.trim_log(segment.position)
            database.checkpoint_if_due()

        try:
            await self._connections.write(work)
        except Exception:  # noqa: BLE001  # whatever it was, the batch must be flushed again
            _log.warning("A flush failed; the ledger file will be opened again.", exc_info=True)
            # The batch was taken from the segment and is not in the tables. The next call opens the
            # file again, which flushes the whole commit log.
            self._connections.drop()
            return
        # They move to the cache. Until the last batch the memtable is asked first.
        for user_id, account in {one.account.user_id: one.account for _, one in changes}.items():
            self._cache.put(user_id, account)
        if last:
            self._memtable.sealed = None
            self._epoch += 1

    async def _flush_all(self) -> None:
        """Flush the whole memtable. The caller holds the lock."""
        while True:
            await self._flush_finished()
            if not self._connections.is_open:
                raise StoreUnavailableError("The commit log could not be flushed.")
            if self._memtable.sealed is None:
                if not self._memtable.active.changes:
                    return
                self._memtable.seal()
            self._flushing = asyncio.ensure_future(self._flush_batch(SEGMENT_SIZE))

    async def _flush_finished(self) -> None:
        if self._flushing is not None:
            await self._flushing
            self._flushing = None

    async def _reopen(self) -> None:
        """Open the file again after a failure. Everything acknowledged is in the commit log.

        The caller holds the lock.
        """
        # A batch of the old memtable must not be flushed to the newly opened file.
        await self._flush_finished()
        try:
            await self._connections.open()
        except StoreUnavailableError:
            raise
        except Exception as error:
            raise StoreUnavailableError("The ledger file could not be opened again.") from error
        # The cache first: other threads read both, and it may be older than the memtable.
        self._cache.clear()
        self._memtable = Memtable()
        self._epoch += 1

    async def _read(self, work: Callable[[Database], _Result]) -> _Result:
        if not self._connections.is_readable:
            try:
                await self._exclusively(_nothing)
            except StoreUnavailableError:
                # On a full disk the memtable still holds what is not in the tables.
                if not self._connections.is_readable:
                    raise
        return await self._connections.read(work)


def _unusable(path: Path, cause: BaseException) -> StoreConfigurationError:
    """Return why a ledger could not be opened."""
    # A full disk may be an I/O error, of the memory that connections share.
    full = isinstance(cause, apsw.FullError) or is_full(path.parent)
    match cause:
        case apsw.BusyError():
            return StoreInUseError(
                f"The ledger {path} is being written by another program, such as a SQLite shell:"
                " end it first."
            )
        case apsw.FullError() | apsw.IOError() if full:
            return StoreConfigurationError(
                f"The ledger {path} cannot be opened, because its disk is full: free some space."
            )
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            return StoreConfigurationError(
                f"The ledger {path} cannot be written: it, its folder, and the files beside it must be"
                f" writable ({cause})."
            )
        case apsw.IOError() | OSError():
            return StoreConfigurationError(
                f"The ledger {path} cannot be opened, because its disk is failing ({cause!r})."
            )
        case _:
            return DamagedLedgerError(
                f"The ledger {path} cannot be opened: it is not a ledger, or it is damaged ({cause!r})."
            )


async def _nothing() -> None:
    """Do nothing: the lock is only taken so that the file is open."""
