from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from support.access import CALLERS
from support.rpc import Api, serving
from support.stores import FailingStore, GatedStore, used_by_servers
from support.transports import transport

__all__ = ["transport"]


@pytest.fixture(params=["memory", "sqlite"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    """A real server over a real channel, on each embedded store."""
    store = "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/ledger.sqlite"
    async with serving(store=store) as api:
        yield api


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> GatedStore:
    """The store of every server in this test; it commits when the test says so."""
    return used_by_servers(GatedStore(), monkeypatch)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    """The store of every server in this test; it fails when the test says so."""
    return used_by_servers(FailingStore(), monkeypatch)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that has callers."""
    settings = Settings(listen="127.0.0.1:0")
    async with (
        running(settings, CALLERS) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel
