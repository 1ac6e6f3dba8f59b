"""The kinds of store that the contract holds for, each opened the same way."""

from pathlib import Path
from typing import Protocol, Self

from entitlements_server.stores.interface import Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.postgresql import open_postgresql
from entitlements_server.stores.postgresql.store import PostgresqlStore
from entitlements_server.stores.redis import open_redis
from entitlements_server.stores.redis.store import RedisStore
from entitlements_server.stores.sqlite import SqliteStore
from support.postgresql import Pgbouncer, PostgresqlServer, empty
from support.redis import RedisClusterServers, RedisServer, flush


class Kind(Protocol):
    """One place where a ledger is kept.

    Attributes:
        durable: Whether what was closed can be opened again.
        slow: By how much to divide what a test does at random.
    """

    durable: bool
    slow: int

    async def open(self) -> Store:
        """Open the ledger at this place: the one that was there before, if any."""

    async def abandon(self, store: Store) -> None:
        """End a store of this place as a crash would: nothing is finished first."""

    def fresh(self) -> Self:
        """Another place of the same kind, with nothing in it."""


class MemoryKind:
    durable = False
    slow = 1

    async def open(self) -> Store:
        return MemoryStore()

    async def abandon(self, store: Store) -> None:
        await store.close()

    def fresh(self) -> Self:
        return type(self)()


class SqliteKind:
    durable = True
    slow = 1

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copies = 0

    async def open(self) -> SqliteStore:
        return await SqliteStore.open(self.path)

    async def abandon(self, store: Store) -> None:
        assert isinstance(store, SqliteStore)
        await store._flush_finished()
        await store._connections.close(checkpoint=False)

    def fresh(self) -> Self:
        self._copies += 1
        return type(self)(self.path.with_suffix(f".{self._copies}"))


class RedisKind:
    durable = True
    slow = 3

    def __init__(self, servers: RedisServer | RedisClusterServers) -> None:
        self.servers = servers
        flush(servers)

    async def open(self) -> Store:
        return await open_redis(self.servers.url)

    async def abandon(self, store: Store) -> None:
        assert isinstance(store, RedisStore)
        await store._topology.close()

    def fresh(self) -> Self:
        return type(self)(self.servers)


class PostgresqlKind:
    durable = True
    slow = 3

    def __init__(self, server: PostgresqlServer, pooler: Pgbouncer | None = None) -> None:
        self.server = server
        self.pooler = pooler
        empty(server)

    async def open(self) -> Store:
        return await open_postgresql((self.pooler or self.server).url)

    async def abandon(self, store: Store) -> None:
        assert isinstance(store, PostgresqlStore)
        for connection in store._connections._idle:
            connection.drop()
        await store._connections.close()

    def fresh(self) -> Self:
        return type(self)(self.server, self.pooler)
