"""The PostgreSQL store: the interface."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import ReadSet
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores import user_writes
from entitlements_server.stores.account_cache import AccountCache
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import (
    AccountPage,
    CommandResult,
    DamagedRecordError,
    Finding,
    LedgerIdentity,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.postgresql import changes as feed
from entitlements_server.stores.postgresql.account_write import AccountWrite
from entitlements_server.stores.postgresql.check import check
from entitlements_server.stores.postgresql.codec import (
    damaged_account,
    damaged_transaction,
    read_account,
    read_transaction,
)
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.connections import (
    ConflictError,
    Connections,
    DownError,
    LostError,
    RefusedError,
    UnfitError,
    Work,
)
from entitlements_server.stores.postgresql.ledger_format import (
    adopt,
    check_format,
    open_format,
    read_identity,
)
from entitlements_server.stores.postgresql.prefetch import Prefetch, prefetch
from entitlements_server.stores.postgresql.statements import (
    ACCOUNT,
    ACCOUNTS,
    DUE,
    GREETING,
    HISTORY,
    NEWEST,
    TIME,
    TRANSACTION,
)
from entitlements_server.stores.postgresql.url import PostgresqlUrl, parse
from entitlements_server.stores.postgresql.writer import Writer, unavailable
from entitlements_server.stores.user_writes import Decide

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 50 MB. Decisions are made on them and then confirmed."""

_READ_TRIES = 3
_READ_PAUSE_S = 0.05
_PROBLEMS = (DownError, LostError, ConflictError, RefusedError, UnfitError)


class PostgresqlStore:
    """A ledger in a PostgreSQL database. Create it with `open`.

    The cache has accounts as this server stored them. Another server may have written since, so it is
    only used as a guess for commits, which the statement confirms. Reads go to PostgreSQL.
    """

    def __init__(self, url: PostgresqlUrl) -> None:
        self._connections = Connections(url, self._check)
        self._cache = AccountCache[tuple[Account, int, bytes]](CACHED_ACCOUNTS)
        self._writer = Writer(self._connections, self._remember)
        self._writes: set[asyncio.Task[None]] = set()
        self._has_format = False
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the ledger that a URL names, and create it if there is none; see docs/postgresql.md.

        Raises:
            StoreConfigurationError: The URL is wrong, or the server cannot be reached or is not
                durable enough; the message says what to do.
        """
        store = cls(parse(url))
        try:
            await store._connections.ping(GREETING)
        except StoreConfigurationError:
            await store.close()
            raise
        except UnfitError as error:
            await store.close()
            raise StoreConfigurationError(str(error)) from error
        except _PROBLEMS as error:
            await store.close()
            raise StoreConfigurationError(
                f"PostgreSQL cannot be used ({error}): check that it runs, that the address in the"
                " store's URL is right, and whether it uses TLS."
            ) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        """See Store."""
        return await user_writes.commit(commands, rule, self._guessed, self._write)

    async def account(self, user_id: str) -> Account:
        """See Store."""
        rows = await self._fetch(ACCOUNT, user_id)
        if not rows:
            if not await self._fetch(TRANSACTION, user_id, 1):
                return Account(user_id)
            # Both may have been made between the two reads.
            rows = await self._fetch(ACCOUNT, user_id)
            if not rows:
                raise damaged_account(user_id, "it is missing, and has transactions")
        account = read_account(user_id, rows[0]["state"])
        self._remember(account, rows[0]["write_id"], rows[0]["state"])
        return account

    def known_account(self, user_id: str) -> Account | None:  # noqa: ARG002  # see below
        """See Store: another server may have written since."""
        return None

    async def bound(self, user_id: str, names: Collection[str]) -> Mapping[str, Charge]:
        """See Store."""

        async def work(connection: Connection) -> Prefetch:
            one = Prefetch(user_id, list(names), (), ())
            await prefetch(connection, [one])
            return one

        found: Prefetch = await self._read(work)
        if found.error is not None:
            raise found.error
        state = found.state
        return {name: state.charges[user_id, one.sequence] for (_, name), one in state.keys.items()}

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See Store."""
        rows = await self._fetch(TRANSACTION, user_id, sequence)
        if not rows:
            if not 1 <= sequence <= (await self.account(user_id)).transaction_count:
                return None
            # It may have been recorded between the two reads.
            rows = await self._fetch(TRANSACTION, user_id, sequence)
            if not rows:
                raise damaged_transaction(user_id, sequence, "it is missing")
        return read_transaction(user_id, sequence, rows[0]["body"])

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        newest = min(before - 1, (await self.account(user_id)).transaction_count)
        found = await self._range(user_id, max(newest - limit, 0) + 1, newest)
        found.reverse()
        return found

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        newest = (await self.account(user_id)).transaction_count
        return await self._range(user_id, after + 1, min(after + limit, newest))

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """See Store."""
        return [row["user_id"] for row in await self._fetch(DUE, until_us, limit)]

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See Store. The cursor is the last user id read."""
        rows = await self._fetch(ACCOUNTS, cursor, limit)
        page: list[Account] = []
        damaged: list[Exception] = []
        for row in rows:
            try:
                page.append(read_account(row["user_id"], row["state"]))
            except (DamagedRecordError, ForeignFormatError) as error:
                damaged.append(error)
        more = rows[-1]["user_id"] if len(rows) == limit else ""
        return AccountPage(page, more, tuple(damaged))

    async def changes(self, after: feed.Place, limit: int) -> Sequence[feed.Change]:
        """Read the change feed: see `changes.changes`."""
        found: Sequence[feed.Change] = await self._read(
            lambda connection: feed.changes(connection, after, limit)
        )
        return found

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See Store."""
        await user_writes.append(transactions, _write_of, self._writer.prefetch, self._write)

    async def time_us(self) -> int | None:
        """See Store."""
        ((time_us,),) = await self._fetch(TIME)
        return int(time_us)

    async def newest_time_us(self) -> int:
        """See Store."""
        rows = await self._fetch(NEWEST)
        if not rows:
            return 0
        try:
            user_id, sequence, body = rows[0]
            return read_transaction(user_id, sequence, body).create_time_us
        except (DamagedRecordError, ForeignFormatError):
            return 0

    async def identity(self) -> LedgerIdentity:
        """See Store."""
        identity: LedgerIdentity = await self._read(read_identity)
        return identity

    async def adopt(self, identity: LedgerIdentity) -> None:
        """See Store."""
        await self._read(lambda connection: adopt(connection, identity))

    async def self_check(self) -> Sequence[Finding]:
        """See SupportsSelfCheck."""
        try:
            return [finding async for finding in check(self._connections)]
        except _PROBLEMS as error:
            raise unavailable(error) from error

    async def ping(self) -> None:
        """See Store. What the server promises is asked again: a reload may have changed it."""
        try:
            await self._connections.ping(GREETING)
        except _PROBLEMS as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """See Store."""
        self._closed = True
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._connections.close()

    async def _check(self, connection: Connection) -> None:
        if not self._has_format:
            await open_format(connection)
            self._has_format = True
        await check_format(connection)

    async def _fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        rows: Sequence[Any] = await self._read(
            lambda connection: connection.fetch(statement, *arguments)
        )
        return rows

    async def _range(self, user_id: str, oldest: int, newest: int) -> list[Transaction]:
        """Read the transactions between two sequences, oldest first."""
        if newest < oldest:
            return []
        rows = await self._fetch(HISTORY, user_id, oldest, newest)
        for sequence, row in enumerate(rows, oldest):
            if row["sequence"] != sequence:
                raise damaged_transaction(user_id, sequence, "it is missing")
        if len(rows) < newest - oldest + 1:
            raise damaged_transaction(user_id, oldest + len(rows), "it is missing")
        return [read_transaction(user_id, row["sequence"], row["body"]) for row in rows]

    async def _read(self, work: Work[Any]) -> Any:
        """Do work that may be repeated, as reading may."""
        for trial in range(1, _READ_TRIES + 1):
            try:
                return await self._connections.run(work)
            except _PROBLEMS as error:
                if trial == _READ_TRIES or not isinstance(error, (LostError, ConflictError)):
                    raise unavailable(error) from error
            await asyncio.sleep(_READ_PAUSE_S * trial)
        raise AssertionError  # the loop returns or raises

    def _guessed(self, user_id: str, size: int, read_set: ReadSet, decide: Decide) -> AccountWrite:
        """Return the write of a user, with the account as it was when this server last saw it."""
        write = _write_of(user_id, size, read_set, decide)
        if cached := self._cache.get(user_id):
            write.guess(*cached)
        return write

    async def _write(self, writes: Sequence[AccountWrite]) -> None:
        """Store what a group writes, also if the caller is cancelled. `close` waits for it."""
        if self._closed:
            raise StoreUnavailableError("The ledger is closed.")
        task = asyncio.ensure_future(self._writer.write(writes))
        self._writes.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writes.discard(task)
        if not task.cancelled():
            # If the caller was cancelled, nobody else retrieves it.
            task.exception()

    def _remember(self, account: Account, write_id: int, text: bytes) -> None:
        self._cache.put(account.user_id, (account, write_id, text))


def _write_of(user_id: str, size: int, read_set: ReadSet, decide: Decide) -> AccountWrite:
    names = sorted(name for _, name in read_set.keys)
    charges = sorted(sequence for _, sequence in read_set.charges)
    windows = sorted(name for _, name in read_set.windows)
    return AccountWrite(user_id, size, names, windows, charges, decide)
