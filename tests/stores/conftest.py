"""Every store that there is, for the tests that each of them has to pass.

To add a store, add a kind to `support/kinds.py` and a line to KINDS.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from entitlements_server.stores.port import Store
from entitlements_server.stores.sqlite import store as sqlite_store
from support.kinds import Kind, MemoryKind, SqliteKind


def sqlite_kind(request: pytest.FixtureRequest) -> Kind:
    tmp_path: Path = request.getfixturevalue("tmp_path")
    return SqliteKind(tmp_path / "ledger.sqlite")


def busy_sqlite_kind(request: pytest.FixtureRequest) -> Kind:
    """Sizes so small that transactions move from the journal to the tables all the time."""
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(sqlite_store, "GENERATION_SIZE", 5)
    monkeypatch.setattr(sqlite_store, "SLICE_SIZE", 2)
    monkeypatch.setattr(sqlite_store, "CACHED_ACCOUNTS", 2)
    return sqlite_kind(request)


KINDS: dict[str, Callable[[pytest.FixtureRequest], Kind]] = {
    "memory": lambda _: MemoryKind(),
    "sqlite": sqlite_kind,
    "sqlite-busy": busy_sqlite_kind,
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """A place for a ledger, of each kind in turn."""
    return KINDS[request.param](request)


@pytest.fixture
def durable_kind(kind: Kind) -> Kind:
    if not kind.durable:
        pytest.skip("what is in memory ends with it")
    return kind


@pytest.fixture
async def store(kind: Kind) -> AsyncIterator[Store]:
    """An empty store, of each kind in turn."""
    store = await kind.open()
    yield store
    await store.close()
