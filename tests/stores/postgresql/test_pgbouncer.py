"""A pooler shares connections out by the transaction: nothing of ours may rely on one of them."""

import asyncio

import asyncpg
import pytest

from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.statements import GREETING
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, consume, top_up, whole_history
from support.postgresql import Pgbouncer, PostgresqlServer


async def shared(bouncer: Pgbouncer) -> None:
    """Six servers on three connections, each with users of its own."""
    stores = [await PostgresqlStore.open(bouncer.url) for _ in range(6)]

    async def work(store: PostgresqlStore, user: str) -> None:
        await commit(store, top_up(user, 1000))
        for number in range(15):
            await commit(store, consume(user, f"key-{number}"))
            account = await store.account(user)
            assert (account.user_id, account.transaction_count) == (user, number + 2)
        assert len(await whole_history(store, user)) == 16

    results = await asyncio.gather(
        *(work(store, f"user-{number}") for number, store in enumerate(stores)),
        return_exceptions=True,
    )
    for store in stores:
        await store.close()
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def test_servers_that_share_connections_get_their_own_answers(bouncer: Pgbouncer) -> None:
    await shared(bouncer)


async def test_with_prepared_statements_they_would_not(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's pgbouncer knows nothing of them."""

    async def greet(self: Connection) -> None:
        self.promises = await self._driver.fetchrow(GREETING)

    monkeypatch.setattr(Connection, "_greet", greet)
    with (
        Pgbouncer(server) as bouncer,
        pytest.raises((StoreUnavailableError, StoreConfigurationError, AssertionError)),
    ):
        await shared(bouncer)


async def test_a_pooler_that_shares_connections_out_by_the_statement_is_refused(
    server: PostgresqlServer,
) -> None:
    with (
        Pgbouncer(server, mode="statement") as bouncer,
        pytest.raises(StoreConfigurationError, match="set pool_mode to transaction"),
    ):
        await PostgresqlStore.open(bouncer.url)


async def test_a_role_whose_statements_are_cut_short_is_refused_behind_a_pooler(
    server: PostgresqlServer,
) -> None:
    """Where no pooler is in front, the connection sets that itself."""
    server.sql("ALTER ROLE owner SET statement_timeout = '5s'")
    try:
        with (
            Pgbouncer(server) as bouncer,
            pytest.raises(StoreConfigurationError, match=r"rights\.sql"),
        ):
            await PostgresqlStore.open(bouncer.url)
        await (await PostgresqlStore.open(server.url)).close()
    finally:
        server.sql("ALTER ROLE owner RESET statement_timeout")


async def test_a_pooler_is_known_by_the_process_that_it_makes_up(
    server: PostgresqlServer, bouncer: Pgbouncer
) -> None:
    for url, same in ((server.url, True), (bouncer.url, False)):
        connection = await asyncpg.connect(url, statement_cache_size=0)
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        assert (pid == connection.get_server_pid()) is same
        await connection.close()
