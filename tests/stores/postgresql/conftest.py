from collections.abc import AsyncIterator, Iterator

import pytest

from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.postgresql import Pgbouncer, PostgresqlServer, empty


@pytest.fixture
def server(one_postgresql: PostgresqlServer) -> PostgresqlServer:
    empty(one_postgresql)
    return one_postgresql


@pytest.fixture
def bouncer(server: PostgresqlServer, one_pgbouncer: Pgbouncer) -> Pgbouncer:
    return one_pgbouncer


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server that the test may stop, kill and set up otherwise."""
    with PostgresqlServer() as server:
        yield server


@pytest.fixture
async def store(server: PostgresqlServer) -> AsyncIterator[PostgresqlStore]:
    store = await PostgresqlStore.open(server.url)
    yield store
    await store.close()
