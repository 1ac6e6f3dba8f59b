"""A whole ledger goes into PostgreSQL and out again."""

from pathlib import Path

from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.maintenance.copy import copy
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.postgresql.store import PostgresqlStore
from entitlements_server.stores.sqlite import SqliteStore
from support.ledger import all_accounts, commit, consume, recorded, rule_at, top_up

USERS = [f"user-{number}" for number in range(300)]


async def filled() -> Store:
    """A ledger with a long history, many short ones, refunds and denials."""
    store = MemoryStore()
    await commit(store, *(top_up(user, 5, "first") for user in USERS), consume("poor"))
    charges = [recorded(one) for one in await commit(store, *(consume(one, "k") for one in USERS))]
    for one in charges:
        await commit(
            store, Refund(user_id=one.user_id, transaction_id=one.transaction_id, amount=1)
        )
    many: list[Command] = [top_up("ada", 1)] * 2500
    await store.commit(many, rule_at())
    return store


async def test_a_ledger_that_goes_in_comes_out_the_same(
    store: PostgresqlStore, tmp_path: Path
) -> None:
    """Its chains included, which `verify` computes again."""
    source = await filled()
    copied = await copy(source, store, resume=False)
    assert (copied.accounts, copied.transactions) == (302, 3401)
    assert [str(finding) async for finding in verify(store)] == []
    away = await SqliteStore.open(tmp_path / "ledger.sqlite")
    assert await copy(store, away, resume=False) == copied

    def by_user(account: object) -> str:
        return str(getattr(account, "user_id", ""))

    wanted = sorted(await all_accounts(source), key=by_user)
    assert sorted(await all_accounts(away), key=by_user) == wanted
    await away.close()
