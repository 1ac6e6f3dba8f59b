"""Every store that there is, for the tests that each of them has to pass.

To add a store, add a kind to `support/kinds.py` and a line to KINDS.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from entitlements_server.stores.interface import Store
from entitlements_server.stores.postgresql import connection as postgresql_connection
from entitlements_server.stores.postgresql import connections as postgresql_connections
from entitlements_server.stores.postgresql import store as postgresql_store
from entitlements_server.stores.postgresql import writer as postgresql_writer
from entitlements_server.stores.redis import account_write, connection, schema
from entitlements_server.stores.redis import store as redis_store
from entitlements_server.stores.sqlite import store as sqlite_store
from support.kinds import Kind, MemoryKind, PostgresqlKind, RedisKind, SqliteKind
from support.postgresql import Pgbouncer, PostgresqlServer
from support.redis import RedisClusterServers, RedisServer
from support.waiting import PATIENCE_S


def sqlite_kind(request: pytest.FixtureRequest) -> Kind:
    tmp_path: Path = request.getfixturevalue("tmp_path")
    return SqliteKind(tmp_path / "ledger.sqlite")


def busy_sqlite_kind(request: pytest.FixtureRequest) -> Kind:
    """Sizes so small that transactions move from the commit log to the tables all the time."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(sqlite_store, "SEGMENT_SIZE", 5)
    monkeypatch.setattr(sqlite_store, "MIN_FLUSH_SIZE", 2)
    monkeypatch.setattr(sqlite_store, "CACHED_ACCOUNTS", 2)
    return sqlite_kind(request)


@pytest.fixture(scope="session")
def one_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def three_servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a database on a busy machine take longer than the product waits: no test here is about that."""
    monkeypatch.setattr(connection, "_CONNECT_S", PATIENCE_S)
    monkeypatch.setattr(connection, "_REPLY_S", PATIENCE_S)
    monkeypatch.setattr(postgresql_connection, "_CONNECT_S", PATIENCE_S)
    monkeypatch.setattr(postgresql_connections, "REPLY_S", PATIENCE_S)
    monkeypatch.setattr(postgresql_writer, "_GIVE_UP_S", PATIENCE_S)


def redis_kind(request: pytest.FixtureRequest) -> Kind:
    return RedisKind(request.getfixturevalue("one_server"))


def busy_cluster_kind(request: pytest.FixtureRequest) -> Kind:
    """Chunks of a history so short that most pages need several, and hardly any memory."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for module in (schema, account_write, redis_store):
        monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(redis_store, "CACHED_ACCOUNTS", 2)
    return RedisKind(request.getfixturevalue("three_servers"))


@pytest.fixture(scope="session")
def one_postgresql() -> Iterator[PostgresqlServer]:
    with PostgresqlServer() as server:
        yield server


@pytest.fixture(scope="session")
def one_pgbouncer(one_postgresql: PostgresqlServer) -> Iterator[Pgbouncer]:
    with Pgbouncer(one_postgresql) as bouncer:
        yield bouncer


def postgresql_kind(request: pytest.FixtureRequest) -> Kind:
    return PostgresqlKind(request.getfixturevalue("one_postgresql"))


def busy_pgbouncer_kind(request: pytest.FixtureRequest) -> Kind:
    """Statements so small that most groups take several, hardly any memory, and a pooler."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(postgresql_writer, "MAX_COMMANDS", 3)
    monkeypatch.setattr(postgresql_store, "CACHED_ACCOUNTS", 2)
    server: PostgresqlServer = request.getfixturevalue("one_postgresql")
    return PostgresqlKind(server, request.getfixturevalue("one_pgbouncer"))


KINDS: dict[str, Callable[[pytest.FixtureRequest], Kind]] = {
    "memory": lambda _: MemoryKind(),
    "sqlite": sqlite_kind,
    "sqlite-busy": busy_sqlite_kind,
    "redis": redis_kind,
    "cluster-busy": busy_cluster_kind,
    "postgresql": postgresql_kind,
    "pgbouncer-busy": busy_pgbouncer_kind,
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """A place for a ledger, of each kind in turn."""
    return KINDS[request.param](request)


@pytest.fixture(params=[name for name in KINDS if name != "memory"])
def durable_kind(request: pytest.FixtureRequest) -> Kind:
    """A place that can be opened again, of each such kind in turn."""
    return KINDS[request.param](request)


@pytest.fixture
async def store(kind: Kind) -> AsyncIterator[Store]:
    """An empty store, of each kind in turn."""
    store = await kind.open()
    yield store
    await store.close()
