"""What `verify` finds on PostgreSQL beside the histories, whatever the size of the ledger."""

import asyncio

import asyncpg
import pytest

from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.postgresql import check, connections
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, top_up
from support.postgresql import PostgresqlServer, waiting_for_a_lock

USERS = [f"user-{number:02}" for number in range(40)]


@pytest.mark.parametrize("transactions", [1, 7, 1000])
async def test_each_user_with_a_record_that_is_no_json_is_named_and_no_other(
    server: PostgresqlServer,
    store: PostgresqlStore,
    transactions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One such record spoils a statement about many users."""
    monkeypatch.setattr(check, "TRANSACTIONS", transactions)
    await commit(store, *(top_up(user, 1) for user in USERS))
    assert [one async for one in verify(store)] == []
    server.sql("UPDATE entitlements.transactions SET body = '1.0 {' WHERE user_id = 'user-07'")
    server.sql("UPDATE entitlements.accounts SET state = '1.0 {' WHERE user_id = 'user-31'")
    server.sql("UPDATE entitlements.transactions SET body = '\\xff' WHERE user_id = 'user-39'")
    found = await store.self_check()
    assert [one.user_id for one in found] == ["user-07", "user-31", "user-39"]
    named = {one.user_id: str(one) async for one in verify(store)}
    assert sorted(named) == ["user-07", "user-31", "user-39"]
    assert "entitlements.transactions with sequence 1" in named["user-07"]
    assert "entitlements.accounts" in named["user-31"]


async def test_a_key_of_a_user_of_whom_there_is_nothing_else_is_found(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    """Also behind the last account."""
    await commit(store, top_up("ada", 1))
    server.sql("INSERT INTO entitlements.keys VALUES ('zoe', 'key', 1)")
    assert [one.user_id for one in await store.self_check()] == ["zoe"]


async def test_a_statement_of_verify_may_take_longer_than_a_commit(
    server: PostgresqlServer, store: PostgresqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history of one user may have any length, and is looked at as a whole."""
    await commit(store, top_up("ada", 1))
    holder = await asyncpg.connect(server.url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE entitlements.refunds")
        monkeypatch.setattr(connections, "REPLY_S", 0.0)
        checking = asyncio.create_task(store.self_check())
        await waiting_for_a_lock(server)
    await holder.close()
    assert await checking == []
