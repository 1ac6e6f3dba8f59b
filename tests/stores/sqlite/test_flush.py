"""The commit log and the tables together are one ledger, wherever a transaction is just now."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.store import SEGMENT_SIZE
from support.ledger import Ledger, record, whole_history


async def test_a_history_is_read_whole_while_a_segment_of_it_is_flushed(tmp_path: Path) -> None:
    """More than a segment, in groups of 200, with reads of every length in between."""
    store = await SqliteStore.open(tmp_path / "ledger.sqlite")
    made: list[Transaction] = []
    indexing = 0
    while len(made) < SEGMENT_SIZE + 2000:
        group = [TopUp(user_id=f"u-{place % 9}", amount=1) for place in range(200)]
        made += await record(store, *group)
        indexing += store._memtable.sealed is not None
        mine = [one for one in reversed(made) if one.user_id == "u-4"]
        for before in (len(mine) + 1, len(mine) // 2, len(mine) - 5):
            for limit in (30, 1000):
                wanted = [one for one in mine if one.sequence < before][:limit]
                assert list(await store.history("u-4", before, limit)) == wanted
    assert indexing > 5
    await store.accounts("", 1)
    assert len(store._memtable) == 0
    for place in range(9):
        user_id = f"u-{place}"
        assert await whole_history(store, user_id) == [
            one for one in made if one.user_id == user_id
        ]
    await store.close()


@pytest.mark.parametrize("how", ["commit", "append", "commit and index"])
async def test_a_read_that_a_write_overtakes_leaves_nothing_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It has read the account as it was, and must not keep that in place of what came since."""
    store = await SqliteStore.open(tmp_path / "ledger.sqlite")
    await store.ping()
    has_read, go_on = threading.Event(), threading.Event()
    prefetch = Database.prefetch

    def held(self: Database, *args: Any) -> Any:
        damaged = prefetch(self, *args)
        if self is store._connections._reader:
            has_read.set()
            go_on.wait(60)
        return damaged

    monkeypatch.setattr(Database, "prefetch", held)
    reading = asyncio.create_task(store.account("ada"))
    await asyncio.to_thread(has_read.wait, 60)
    if how == "append":
        ledger = Ledger()
        ledger.record(TopUp(user_id="ada", amount=1))
        await store.append(ledger.history)
    else:
        await record(store, TopUp(user_id="ada", amount=1))
    if how == "commit and index":
        store._cache.clear()  # as if many others had been read since
        await store.accounts("", 1)
    go_on.set()
    assert (await reading).balance == 0
    assert (await store.account("ada")).balance == 1
    assert (await record(store, TopUp(user_id="ada", amount=1)))[0].sequence == 2
    await store.close()
