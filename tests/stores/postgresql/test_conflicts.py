"""Several servers on one ledger: who wins, who waits, and that nobody waits for ever."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from entitlements_server.engine.engine import Engine
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.outcomes import Recorded, Replayed
from entitlements_server.ledger.terms import Choices
from entitlements_server.ledger.values import Status
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.postgresql import writer
from entitlements_server.stores.postgresql.account_write import AccountWrite
from entitlements_server.stores.postgresql.changes import Place
from entitlements_server.stores.postgresql.statements import COMMIT, LOCK
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.postgresql import PostgresqlServer, waiting_for_a_lock


async def opened(server: PostgresqlServer, count: int) -> list[PostgresqlStore]:
    return [await PostgresqlStore.open(server.url) for _ in range(count)]


async def closed(stores: Sequence[PostgresqlStore]) -> None:
    for store in stores:
        await store.close()


async def test_the_last_tokens_are_spent_once_however_many_servers_race(
    server: PostgresqlServer,
) -> None:
    """200 clients on four servers ask for 2 of the last 10 tokens at once: five get them."""
    stores = await opened(server, 4)
    every = Choices(max_denials=1000)  # of them is recorded
    engines = [Engine(store, lambda: BUILT_IN, choices=every) for store in stores]
    await commit(stores[0], top_up("ada", 10))
    results = await asyncio.gather(
        *(engines[n % 4].submit([consume("ada", f"key-{n}")]) for n in range(200))
    )
    transactions = [recorded(outcome) for (outcome,) in results]
    assert sum(denial(one) is None for one in transactions) == 5
    past = await whole_history(stores[3], "ada")
    assert [one.sequence for one in past] == list(range(1, 202))
    assert sum(one.amount for one in past) == 0
    assert sum(one.status is Status.SUCCESS for one in past) == 6
    assert await stores[0].self_check() == []
    await closed(stores)


async def test_a_key_is_charged_once_however_many_servers_get_it(server: PostgresqlServer) -> None:
    """50 keys, sent 20 times each through four servers: one charge each, and 19 replays of it."""
    stores = await opened(server, 4)
    engines = [Engine(store, lambda: BUILT_IN) for store in stores]
    await commit(stores[0], *(top_up(f"user-{n}", 100) for n in range(10)))
    results = await asyncio.gather(
        *(
            engines[copy % 4].submit([consume(f"user-{key % 10}", f"key-{key}")])
            for copy in range(20)
            for key in range(50)
        )
    )
    outcomes = [outcome for (outcome,) in results]
    assert sum(isinstance(outcome, Recorded) for outcome in outcomes) == 50
    assert sum(isinstance(outcome, Replayed) for outcome in outcomes) == 950
    assert len({outcome.transaction.transaction_id for outcome in outcomes}) == 50  # type: ignore[union-attr]
    assert (await stores[0].account("user-0")).balance == 90
    await closed(stores)


async def test_a_stale_memory_of_an_account_or_a_key_never_decides(
    server: PostgresqlServer,
) -> None:
    """What a server remembers is a guess: the statement confirms it, or it is decided again."""
    one, other = await opened(server, 2)
    assert recorded(await commit_one(one, consume("ada"))).status is Status.DENIED
    await commit(other, top_up("ada", 4))
    charge = recorded(await commit_one(other, consume("ada", "key")))
    assert await commit_one(one, consume("ada", "key")) == Replayed(charge)
    assert recorded(await commit_one(one, consume("ada"))).status is Status.SUCCESS
    assert (await other.account("ada")).balance == 0
    await closed([one, other])


async def beaten_to_it(server: PostgresqlServer) -> int:
    """Returns how often a server comes second to one that is faster 20 times."""
    slow, fast = await opened(server, 2)
    await commit(fast, top_up("ada", 1000))
    beaten = 0
    attempt = slow._writer._attempt

    async def after_the_other(writes: Sequence[AccountWrite]) -> None:
        nonlocal beaten
        if writes and beaten < 20:
            beaten += 1
            await commit(fast, consume("ada"))
        await attempt(writes)

    slow._writer._attempt = after_the_other  # type: ignore[method-assign]
    mine = recorded(await commit_one(slow, consume("ada", "mine")))
    assert mine.sequence == 1 + beaten + 1
    await closed([slow, fast])
    return beaten


async def test_a_server_that_always_comes_second_takes_its_turn(server: PostgresqlServer) -> None:
    """After three conflicts it locks the account, and the faster one has to wait."""
    assert await beaten_to_it(server) == writer.TURN_AFTER == 3


async def test_without_turns_it_would_come_second_for_ever(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TURN_AFTER", 10**9)
    assert await beaten_to_it(server) == 20


async def waiting_turn(server: PostgresqlServer) -> list[str]:
    """Returns the transaction id of a turn that waits for its lock."""
    (store,) = await opened(server, 1)
    await commit(store, top_up("ada", 10))
    holder = await asyncpg.connect(server.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM entitlements.accounts WHERE user_id = 'ada' FOR UPDATE")
    write_id = server.sql("SELECT write_id FROM entitlements.accounts")[0]
    # A guess that cannot be right, until its turn comes.
    store._cache.put("ada", (await store.account("ada"), int(write_id) ^ 1, b""))
    pending = asyncio.create_task(commit_one(store, consume("ada")))
    found: list[str] = []
    for _ in range(3000):
        found = server.sql(
            "SELECT coalesce(backend_xid::text, 'none') FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
        )
        if found:
            break
        await asyncio.sleep(0.01)
    await transaction.rollback()
    await holder.close()
    assert recorded(await pending).sequence == 2
    await store.close()
    return found


async def test_a_turn_has_no_transaction_id_before_it_has_its_lock(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what it reads then could be of a higher one, and the change feed out of order."""
    monkeypatch.setattr(writer, "TURN_AFTER", 0)
    assert await waiting_turn(server) == ["none"]
    eager = "WITH now AS MATERIALIZED (SELECT pg_current_xact_id() AS id) " + LOCK.replace(
        "WHERE", "AS account, now WHERE now.id IS NOT NULL AND"
    ).replace("FOR UPDATE", "FOR UPDATE OF account")
    monkeypatch.setattr(writer, "LOCK", eager)
    server.sql("TRUNCATE entitlements.accounts, entitlements.transactions, entitlements.keys")
    assert await waiting_turn(server) != ["none"]


@pytest.mark.parametrize("turn_after", [3, 0], ids=["in a group", "in a turn"])
async def test_after_an_unexpected_error_nobody_is_told_that_nothing_was_stored(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, turn_after: int
) -> None:
    """The engine would commit the group again, and a charge without a key would be made twice."""
    monkeypatch.setattr(writer, "TURN_AFTER", turn_after)
    (store,) = await opened(server, 1)
    await commit(store, top_up("ada", 5), top_up("bob", 5))
    run = store._connections.run

    async def broken(work: Any, reply_s: float | None = None) -> Any:
        result = await run(work, reply_s)
        stored = isinstance(result, set)  # of write ids
        if stored:
            raise RuntimeError
        return result

    with monkeypatch.context() as patched:
        patched.setattr(store._connections, "run", broken)
        with pytest.raises(StoreUnavailableError):
            await Engine(store, lambda: BUILT_IN).submit([consume("ada"), consume("bob")])
    assert [(await store.account(user)).balance for user in ("ada", "bob")] == [3, 3]
    await store.close()


@pytest.mark.parametrize("what", ["account", "transaction"])
async def test_what_is_recorded_while_it_is_read_is_not_taken_for_damage(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It was not there at the first look, and what belongs to it is at the second."""
    reader, other = await opened(server, 2)
    fetch, calls = reader._fetch, itertools.count()

    async def overtaken(statement: str, *arguments: Any) -> Any:
        rows = await fetch(statement, *arguments)
        if next(calls) == 0:
            await commit(other, top_up("ada", 5))
        return rows

    monkeypatch.setattr(reader, "_fetch", overtaken)
    if what == "account":
        assert (await reader.account("ada")).balance == 5
    else:
        found = await reader.transaction("ada", 1)
        assert found is not None
        assert found.amount == 5
    await closed([reader, other])


async def overtaken(server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A turn gets its transaction id, waits, and another write comes first. Returns the change feed."""
    slow, fast = await opened(server, 2)
    await commit(slow, top_up("ada", 10))
    holder = await asyncpg.connect(server.url)
    await holder.execute("SELECT pg_advisory_lock(1)")
    waiting = (
        "WITH now AS MATERIALIZED (SELECT pg_current_xact_id() AS id, pg_advisory_xact_lock(1)) "
        + LOCK.replace("WHERE", "AS account, now WHERE now.id IS NOT NULL AND").replace(
            "FOR UPDATE", "FOR UPDATE OF account"
        )
    )
    with monkeypatch.context() as patched:
        patched.setattr(writer, "TURN_AFTER", 0)
        patched.setattr(writer, "LOCK", waiting)
        pending = asyncio.create_task(commit_one(slow, consume("ada")))
        await waiting_for_a_lock(server)
        patched.setattr(writer, "TURN_AFTER", 3)
        assert recorded(await commit_one(fast, consume("ada"))).sequence == 2
        await holder.close()
        assert recorded(await pending).sequence == 3
    found = [one.place.sequence for one in await fast.changes(Place(), 10)]
    await closed([slow, fast])
    return found


async def test_a_turn_with_an_id_from_before_another_write_is_taken_again(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL gives the id after the first wait for a lock, and there may be a second one."""
    assert await overtaken(server, monkeypatch) == [1, 2, 3]


async def test_or_the_change_feed_would_have_it_too_early(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EARLY", "SELECT false WHERE $1::text IS NOT NULL")
    assert await overtaken(server, monkeypatch) == [1, 3, 2]


async def deadlocks(server: PostgresqlServer) -> int:
    """Two servers charge the same users in opposite orders. Returns how often they locked up."""
    users = [f"user-{number:02}" for number in range(60)]
    stores = await opened(server, 2)
    await commit(stores[0], *(top_up(user, 100) for user in users))
    for store in stores:
        await commit(store, *(consume(user) for user in users))
    before = server.log().count("deadlock detected")
    holder = await asyncpg.connect(server.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM entitlements.accounts WHERE user_id = 'user-30' FOR UPDATE")
    groups = [users, users[::-1]]
    pending = [
        asyncio.create_task(commit(store, *(consume(user) for user in group)))
        for store, group in zip(stores, groups, strict=True)
    ]
    await waiting_for_a_lock(server, 2)
    await transaction.rollback()
    await holder.close()
    await asyncio.gather(*pending)
    assert {(await stores[0].account(user)).balance for user in users} == {92}
    await closed(stores)
    return server.log().count("deadlock detected") - before


async def test_groups_with_the_same_users_never_deadlock(server: PostgresqlServer) -> None:
    assert await deadlocks(server) == 0


async def test_without_an_order_of_locks_they_do(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = 'ORDER BY decided.user_id COLLATE "C"'
    assert order in COMMIT
    monkeypatch.setattr(writer, "COMMIT", COMMIT.replace(order, ""))
    assert await deadlocks(server) > 0


async def begun_again(server: PostgresqlServer) -> list[int]:
    """A failover loses all of a user that a server remembers. Returns the sequences afterwards."""
    (store,) = await opened(server, 1)
    await commit(store, top_up("ada", 10), top_up("bob", 5))
    await commit(store, consume("ada"))
    server.sql(
        "DELETE FROM entitlements.accounts WHERE user_id = 'ada';"
        "DELETE FROM entitlements.transactions WHERE user_id = 'ada'"
    )
    await commit(store, top_up("bob", 1), top_up("ada", 3))
    assert (await store.account("bob")).balance == 6
    await store.close()
    rows = server.sql(
        "SELECT sequence FROM entitlements.transactions WHERE user_id = 'ada' ORDER BY sequence"
    )
    return [int(row) for row in rows]


async def test_an_account_that_a_failover_lost_does_not_go_on_with_a_hole_in_its_history(
    server: PostgresqlServer,
) -> None:
    assert await begun_again(server) == [1]


async def test_without_the_division_by_zero_it_would(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = COMMIT.replace("THEN 0 ELSE 1 END", "THEN 1 ELSE 1 END")
    assert broken != COMMIT
    monkeypatch.setattr(writer, "COMMIT", broken)
    assert await begun_again(server) == [3]
