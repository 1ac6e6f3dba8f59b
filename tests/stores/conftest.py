"""Every store that there is, for the tests that each of them has to pass.

To add a store, add a kind to `support/kinds.py` and a line to KINDS.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from entitlements_server.stores.interface import Store
from entitlements_server.stores.redis import account_write, connection, schema
from entitlements_server.stores.redis import store as redis_store
from entitlements_server.stores.sqlite import store as sqlite_store
from support.kinds import Kind, MemoryKind, RedisKind, SqliteKind
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


def patient(request: pytest.FixtureRequest) -> pytest.MonkeyPatch:
    """Let a busy machine take longer than the product waits for Redis: the contract is not about that."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(connection, "_CONNECT_S", PATIENCE_S)
    monkeypatch.setattr(connection, "_REPLY_S", PATIENCE_S)
    return monkeypatch


def redis_kind(request: pytest.FixtureRequest) -> Kind:
    patient(request)
    return RedisKind(request.getfixturevalue("one_server"))


def busy_cluster_kind(request: pytest.FixtureRequest) -> Kind:
    """Chunks of a history so short that most pages need several, and hardly any memory."""
    monkeypatch = patient(request)
    for module in (schema, account_write, redis_store):
        monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(redis_store, "CACHED_ACCOUNTS", 2)
    return RedisKind(request.getfixturevalue("three_servers"))


KINDS: dict[str, Callable[[pytest.FixtureRequest], Kind]] = {
    "memory": lambda _: MemoryKind(),
    "sqlite": sqlite_kind,
    "sqlite-busy": busy_sqlite_kind,
    "redis": redis_kind,
    "cluster-busy": busy_cluster_kind,
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
