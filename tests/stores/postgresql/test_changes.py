"""The change feed: nothing ever appears before what was returned."""

import asyncio

import asyncpg
import pytest

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.state import State, decide_group
from entitlements_server.stores.postgresql import changes as feed
from entitlements_server.stores.postgresql import ledger_format
from entitlements_server.stores.postgresql.account_write import Attempt, arguments
from entitlements_server.stores.postgresql.changes import Place
from entitlements_server.stores.postgresql.codec import write_account
from entitlements_server.stores.postgresql.statements import CHANGES, COMMIT
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, consume, rule_at, top_up
from support.postgresql import PostgresqlServer


async def named(store: PostgresqlStore, after: Place = Place()) -> list[tuple[str, int]]:  # noqa: B008  # frozen
    found = await store.changes(after, 1000)
    return [(one.place.user_id, one.place.sequence) for one in found]


def attempt(command: Command) -> Attempt:
    """What a server stores for a first command of a user."""
    state = State()
    entries = decide_group(state, [command], rule_at()).entries
    account = state.account(command.user_id)
    return Attempt(0, 7, entries, None, account, write_account(account), state, {})


async def read_while_one_is_slow(server: PostgresqlServer) -> list[list[tuple[str, int]]]:
    """Returns what is read before and after a transaction that began first ends."""
    store = await PostgresqlStore.open(server.url)
    slow = await asyncpg.connect(server.url)
    transaction = slow.transaction()
    await transaction.start()
    await slow.fetch(COMMIT, "on", *arguments([attempt(top_up("slow", 1))]))
    await commit(store, top_up("fast", 1))
    first = await store.changes(Place(), 10)
    await transaction.commit()
    await slow.close()
    after = first[-1].place if first else Place()
    second = await named(store, after)
    await store.close()
    return [[(one.place.user_id, one.place.sequence) for one in first], second]


async def test_what_is_committed_late_is_not_missed(server: PostgresqlServer) -> None:
    """Whoever follows sees it in its place, after what is older, once it is there."""
    assert await read_while_one_is_slow(server) == [[], [("slow", 1), ("fast", 1)]]


async def test_without_a_horizon_it_would_be(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = CHANGES.replace("pg_snapshot_xmin", "pg_snapshot_xmax")
    assert broken != CHANGES
    monkeypatch.setattr(feed, "CHANGES", broken)
    assert await read_while_one_is_slow(server) == [[("fast", 1)], []]


async def restored(server: PostgresqlServer) -> list[tuple[str, int]]:
    """Returns the feed of a ledger that came from a cluster with far higher transaction ids."""
    store = await PostgresqlStore.open(server.url)
    await commit(store, top_up("ada", 1))
    await store.close()
    server.sql("UPDATE entitlements.transactions SET position = position + 1000000000")
    for _ in range(2):
        stores = [await PostgresqlStore.open(server.url) for _ in range(2)]
        await asyncio.gather(*(commit(one, top_up("ada", 1)) for one in stores))
        for one in stores:
            await one.close()
    store = await PostgresqlStore.open(server.url)
    found = await named(store)
    await store.close()
    return found


async def test_the_feed_goes_on_where_transaction_ids_begin_again(server: PostgresqlServer) -> None:
    """As they do where a dump is restored into another cluster: a new epoch comes after the old."""
    assert await restored(server) == [("ada", sequence) for sequence in range(1, 6)]
    assert server.sql("SELECT epoch FROM entitlements.ledger") == ["1"]


async def test_without_an_epoch_it_would_not(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_format, "RAISE_EPOCH", "SELECT 1")
    assert await restored(server) != [("ada", sequence) for sequence in range(1, 6)]


async def test_a_hot_user_of_many_servers_is_in_order(server: PostgresqlServer) -> None:
    """Turns included: whatever is committed, sequence 2 never comes before 1."""
    stores = [await PostgresqlStore.open(server.url) for _ in range(4)]
    await commit(stores[0], top_up("ada", 1000))

    async def charge(store: PostgresqlStore) -> None:
        for _ in range(10):
            await commit(store, consume("ada"))

    done = asyncio.gather(*(charge(store) for store in stores))
    found: list[tuple[str, int]] = []
    after = Place()
    while len(found) < 41:
        some = await stores[0].changes(after, 3)
        found += [(one.place.user_id, one.place.sequence) for one in some]
        after = some[-1].place if some else after
        await asyncio.sleep(0)
    await done
    assert found == [("ada", sequence) for sequence in range(1, 42)]
    for store in stores:
        await store.close()
