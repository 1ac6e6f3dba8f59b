"""The connections of a store: opened when needed, again after a loss, and checked each time."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from entitlements_server.errors import CallError
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.durability import objection
from entitlements_server.stores.postgresql.url import PostgresqlUrl

log = structlog.get_logger()

_Result = TypeVar("_Result")
Work = Callable[[Connection], Awaitable[_Result]]

REPLY_S = 5.0
"""How long a piece of work may take before its connection is given up."""

_CONNECTIONS = 8
_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 1.0
_RETRYABLE = ("40001", "40P01", "55P03")
_GOING = ("57P", "08")
_REJECTED = ("28", "3D")
_OF_ROWS = ("22", "23")
"""Data exceptions, and violations of constraints."""

_FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What the driver raises. Where a backend ends, it may be any of them."""


class DownError(Exception):
    """The database cannot be reached. Nothing was sent."""


class LostError(Exception):
    """The connection was lost. It is unknown what was done."""


class ConflictError(Exception):
    """The database undid the work because of other work: nothing was done."""


class RefusedError(Exception):
    """The database refused a statement: nothing was done.

    Args:
        what: What it said.
        sqlstate: Its code for that.

    Attributes:
        is_about_rows: Whether it was refused for what a row says, and not for what the server can do.
    """

    def __init__(self, what: str, sqlstate: str) -> None:
        super().__init__(what)
        self.is_about_rows = sqlstate.startswith(_OF_ROWS)


class UnfitError(Exception):
    """The database cannot be used for the ledger; the message says what to change."""


class Connections:
    """The connections of a store. At most eight are open.

    Args:
        url: The store's URL.
        check: Called with each new connection before it is used. May raise UnfitError.
    """

    def __init__(self, url: PostgresqlUrl, check: Work[None]) -> None:
        self._url = url
        self._check = check
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._tasks: set[asyncio.Task[object]] = set()
        self._failures = 0
        self._closed_until = 0.0
        self._is_closed = False

    async def run(self, work: Work[_Result], reply_s: float | None = None) -> _Result:
        """Do work on a connection. It completes even if the caller is cancelled.

        A statement is never cancelled: one that has committed and waits for a standby would then be
        visible, and could still be lost.

        Args:
            work: What to do.
            reply_s: How long it may take before the connection is given up, in seconds; None: REPLY_S.

        Raises:
            DownError, UnfitError, ConflictError, RefusedError: Nothing was done.
            LostError: It is unknown what was done.
        """
        if self._is_closed:
            raise DownError("The ledger is closed.")
        limit_s = REPLY_S if reply_s is None else reply_s
        task: asyncio.Task[_Result] = asyncio.ensure_future(self._run(work, limit_s))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def ping(self, promises: str) -> None:
        """Ask again what the server promises.

        Args:
            promises: The statement that asks.

        Raises:
            DownError, LostError, ConflictError, RefusedError, UnfitError: It cannot be used.
        """

        async def ask(connection: Connection) -> None:
            (row,) = await connection.fetch(promises)
            self._require(row)

        await self.run(ask)

    async def close(self) -> None:
        """Finish the work under way and close all connections."""
        self._is_closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    def _done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # If the caller was cancelled, nobody else retrieves it.
            task.exception()

    async def _run(self, work: Work[_Result], reply_s: float) -> _Result:
        async with self._free:
            connection = await self._take()
            working = asyncio.ensure_future(work(connection))
            try:
                await asyncio.wait({working}, timeout=reply_s)
                if not working.done():
                    connection.drop()
                result = await working
            except asyncpg.DivisionByZeroError as error:
                self._give_back(connection)
                raise ConflictError("an account is gone") from error
            except asyncpg.PostgresError as error:
                code = str(error.sqlstate or "")
                if not connection.is_open or code.startswith(_GOING):
                    self._drop_all(connection)
                    raise LostError(type(error).__name__) from error
                if code in _RETRYABLE:
                    self._give_back(connection)
                    raise ConflictError(type(error).__name__) from error
                refused = RefusedError(type(error).__name__, code)
                if refused.is_about_rows:
                    # Whoever asked knows whose they are, and reports them.
                    self._give_back(connection)
                else:
                    # Rare, and whatever the reason is, a new connection asks what the server promises.
                    connection.drop()
                    log.exception("PostgreSQL refused a statement.", sqlstate=code)
                raise refused from error
            except _FAILURES as error:
                self._drop_all(connection)
                raise LostError(type(error).__name__) from error
            except (CallError, ConflictError):
                # What was stored, or the turn: the connection is as good as before.
                self._give_back(connection)
                raise
            except BaseException:
                # Unforeseen, so nobody knows what the connection is in the middle of.
                connection.drop()
                raise
            self._give_back(connection)
            return result

    def _give_back(self, connection: Connection) -> None:
        if connection.is_open:
            self._idle.append(connection)

    def _drop_all(self, connection: Connection) -> None:
        """Drop a lost connection and the idle ones: it may be another server by now."""
        for one in (connection, *self._idle):
            one.drop()
        self._idle.clear()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return await self._open()

    async def _open(self) -> Connection:
        if time.monotonic() < self._closed_until:
            raise DownError("It could not be reached a moment ago.")
        try:
            connection = await Connection.connect(self._url)
        except (*_FAILURES, ValueError) as error:
            self._back_off()
            code = str(getattr(error, "sqlstate", None) or "")
            if code.startswith(_REJECTED):
                raise UnfitError(
                    "PostgreSQL rejects the user, the password or the database in the store's URL."
                ) from error
            if "statement pooling" in str(error):
                raise UnfitError(
                    "The pooler in front of PostgreSQL shares connections out by the statement,"
                    " and the ledger needs whole transactions: set pool_mode to transaction."
                ) from error
            raise DownError(_cause(error)) from error
        try:
            self._require(connection.promises)
            await self._check(connection)
        except _FAILURES as error:
            connection.drop()
            self._back_off()
            raise DownError(_cause(error)) from error
        except BaseException:
            connection.drop()
            self._back_off()
            raise
        if self._failures:
            log.info("PostgreSQL is reachable again.")
        self._failures = 0
        return connection

    def _require(self, promises: object) -> None:
        problem = objection(self._url.durability, promises)  # type: ignore[arg-type]  # the driver's row
        if problem is not None:
            raise UnfitError(f"The PostgreSQL server cannot be used for the ledger. {problem}")

    def _back_off(self) -> None:
        if not self._failures:
            log.warning("PostgreSQL cannot be reached.")
        self._failures += 1
        longest = _MIN_BACKOFF_S * 2 ** min(self._failures, 10)
        seconds = min(longest, _MAX_BACKOFF_S) * random.uniform(0.5, 1)  # noqa: S311  # jitter
        self._closed_until = time.monotonic() + seconds


def _cause(error: BaseException) -> str:
    """Return the text of a failed connection. It never has a password in it."""
    return str(error).strip() or type(error).__name__
