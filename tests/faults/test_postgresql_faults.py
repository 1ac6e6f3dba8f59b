"""PostgreSQL struck under load, in each way."""

import asyncio

import pytest

from entitlements_server.stores.postgresql.store import PostgresqlStore
from faults import postgresql_faults
from faults.postgresql_faults import check
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.network import Network
from support.postgresql import PostgresqlServer


@pytest.mark.parametrize("fault", ["killed", "terminated", "cut off", "promoted"])
def test_what_clients_saw_is_a_history_that_can_be_when_postgresql_is(fault: str) -> None:
    if fault == "cut off" and not Network.is_allowed():
        pytest.skip("a network that can be cut takes the rights of root")
    assert not check(1, faults=(fault,), operations=400, strikes=2).problems


def test_a_write_made_again_without_a_look_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: answers are lost for a little longer than the server waits for a reply."""
    if not Network.is_allowed():
        pytest.skip("a network that can be cut takes the rights of root")
    monkeypatch.setattr(postgresql_faults, "AWAY_S", (5.2, 6.2))
    assert any(
        check(
            5,
            breaking="lost-reply-taken-for-failure",
            faults=("cut off",),
            operations=1000,
            strikes=2,
        ).problems
        for _ in range(3)  # not each cut meets an answer on its way
    )


def test_what_a_standby_did_not_have_when_it_was_promoted_is_lost() -> None:
    """The control: a standby that nobody waited for."""
    assert check(1, faults=("promoted late",), operations=400, strikes=3).problems


async def lost(server: PostgresqlServer, url: str) -> int:
    """Kill PostgreSQL right after a charge is acknowledged, three times. Returns how many are gone."""
    store = await PostgresqlStore.open(url)
    await commit(store, top_up("ada", 1000))
    server.sql("CHECKPOINT")
    acknowledged: set[str] = set()
    for _ in range(3):
        for _ in range(20):
            charge = recorded(await commit_one(store, consume("ada")))
            acknowledged.add(charge.transaction_id)
        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(server.start)
        await store.close()
        store = await PostgresqlStore.open(url)
    there = {one.transaction_id for one in await whole_history(store, "ada")}
    assert await store.self_check() == []
    await store.close()
    return len(acknowledged - there)


async def test_what_was_acknowledged_a_moment_before_a_crash_is_there() -> None:
    with PostgresqlServer() as server:
        assert await lost(server, server.url) == 0


async def test_what_was_acknowledged_before_it_was_on_disk_is_not() -> None:
    """The control: the weaker promise, which had to be named."""
    with PostgresqlServer(synchronous_commit="off", wal_writer_delay="10s") as server:
        assert await lost(server, f"{server.url}?durability=none") > 0
