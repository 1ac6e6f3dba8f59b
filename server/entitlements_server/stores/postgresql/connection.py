"""One connection to PostgreSQL: prepared statements, and transactions.

Everything but a plain error on a connection that is still open leaves it unknown what was done: the
driver reports the end of a backend in many ways.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg

from entitlements_server.stores.postgresql.statements import GREETING, SESSION
from entitlements_server.stores.postgresql.url import PostgresqlUrl

_CONNECT_S = 5.0
_CLOSE_S = 1.0


class Connection:
    """A connection that is used by one call at a time. Create it with `connect`.

    Attributes:
        promises: What the server promised when it was connected.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._prepared: dict[str, Any] = {}
        self._is_pooled = False
        self.promises: Any = None

    @classmethod
    async def connect(cls, url: PostgresqlUrl) -> "Connection":
        """Connect, set up the session, and ask what the server promises.

        Raises:
            Exception: It failed; what is raised is the driver's or the system's.
        """
        driver = await asyncpg.connect(url.dsn, timeout=_CONNECT_S, statement_cache_size=0)
        connection = cls(driver)
        try:
            await connection._greet()
        except BaseException:
            connection.drop()
            raise
        return connection

    @property
    def is_open(self) -> bool:
        """Whether it can still be used, as far as is known."""
        return not self._driver.is_closed()

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """Execute a statement, in a transaction of its own unless one was begun."""
        if self._is_pooled:
            # The next transaction may be on another connection of the pooler's: nothing that is
            # prepared is there, or it is somebody else's under the same name.
            rows: Sequence[Any] = await self._driver.fetch(statement, *arguments)
            return rows
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self._driver.prepare(
                statement, name=f"entitlements_{len(self._prepared)}"
            )
        found: Sequence[Any] = await prepared.fetch(*arguments)
        return found

    async def execute(self, script: str) -> None:
        """Execute a script of statements without arguments."""
        await self._driver.execute(script)

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Make a transaction of the statements in its block."""
        transaction: AbstractAsyncContextManager[Any] = self._driver.transaction()
        return transaction

    def drop(self) -> None:
        """End the connection without a word: nothing that runs on it is cancelled."""
        self._driver.terminate()

    async def close(self) -> None:
        """End the connection."""
        try:
            await self._driver.close(timeout=_CLOSE_S)
        except Exception:  # noqa: BLE001  # it is gone either way
            self._driver.terminate()

    async def _greet(self) -> None:
        # Some poolers share a connection out by the statement: they refuse a transaction.
        async with self.transaction():
            (pid,) = await self._driver.fetchrow("SELECT pg_backend_pid()")
        # A pooler makes up the process that it says is on the other side.
        self._is_pooled = pid != self._driver.get_server_pid()
        if not self._is_pooled:
            await self._driver.fetch(SESSION)
        self.promises = await self._driver.fetchrow(GREETING)
