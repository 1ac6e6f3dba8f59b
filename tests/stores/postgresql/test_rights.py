"""The role that sql/rights.sql makes: what it may do is enough, and nothing else."""

from collections.abc import Iterator
from importlib import resources

import pytest

from entitlements_server.ledger.commands import Refund
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.postgresql import store as module
from entitlements_server.stores.postgresql import writer
from entitlements_server.stores.postgresql.changes import Place
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, commit_one, consume, recorded, top_up
from support.postgresql import PostgresqlServer, SqlError

ROLE = "entitlements"
RIGHTS = (resources.files(module.__package__ or "") / "sql" / "rights.sql").read_text("utf-8")


@pytest.fixture
def role(server: PostgresqlServer) -> Iterator[str]:
    server.sql(RIGHTS)
    yield server.url_of(ROLE)
    server.sql(f"DROP OWNED BY {ROLE} CASCADE; DROP ROLE {ROLE}")


async def test_they_are_enough_for_everything(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await PostgresqlStore.open(role)
    await commit(store, top_up("ada", 10), top_up("bob", 10))
    charge = recorded(await commit_one(store, consume("ada", "key")))
    await commit(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    monkeypatch.setattr(writer, "TURN_AFTER", 0)
    await commit(store, consume("ada"))
    assert len((await store.accounts("", 10)).accounts) == 2
    assert len(await store.changes(Place(), 10)) == 5
    assert [finding async for finding in verify(store)] == []
    assert list(await store.due(10**15, 10)) == []
    await store.ping()
    await store.close()
    await (await PostgresqlStore.open(role)).close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE another",
        "CREATE DATABASE another",
        "CREATE TABLE public.another (one integer)",
        "SELECT * FROM pg_authid",
        "ALTER SYSTEM SET fsync = off",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_they_open_nothing_else(server: PostgresqlServer, role: str, statement: str) -> None:
    with pytest.raises(SqlError, match=r"permission denied|must be superuser"):
        server.sql(statement, user=ROLE)
    assert role
