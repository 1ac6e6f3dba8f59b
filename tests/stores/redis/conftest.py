from collections.abc import AsyncIterator, Iterator

import pytest

from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import Store
from support.redis import RedisClusterServers, RedisServer, flush


@pytest.fixture(params=["redis", "cluster"])
def servers(request: pytest.FixtureRequest) -> RedisServer | RedisClusterServers:
    """An empty server, and an empty cluster of three."""
    name = "one_server" if request.param == "redis" else "three_servers"
    found: RedisServer | RedisClusterServers = request.getfixturevalue(name)
    flush(found)
    return found


@pytest.fixture
def server(one_server: RedisServer) -> RedisServer:
    flush(one_server)
    return one_server


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def store(servers: RedisServer | RedisClusterServers) -> AsyncIterator[Store]:
    store = await open_store(servers.url)
    yield store
    await store.close()
