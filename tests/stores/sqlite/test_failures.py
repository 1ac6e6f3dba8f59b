"""A failing disk: what is acknowledged stays, and the store comes back by itself."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from entitlements_server.ledger.commands import SetBalance, TopUp
from entitlements_server.ledger.outcomes import Recorded, Replayed
from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite import store as sqlite_store
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.memtable import Segment
from support.disk import FailingDisk
from support.ledger import CHARGE, all_accounts, commit, record, replayed, whole_history

ONE = TopUp(user_id="ada", amount=1)


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> FailingDisk:
    return FailingDisk(f"failing-{id(request)}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
async def store(path: Path, disk: FailingDisk) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, vfs=disk.name)
    yield store
    await store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushing begins at five transactions, two at a time."""
    monkeypatch.setattr(sqlite_store, "SEGMENT_SIZE", 5)
    monkeypatch.setattr(sqlite_store, "MIN_FLUSH_SIZE", 2)


@contextmanager
def busy_writer(store: SqliteStore) -> Iterator[None]:
    """Keep the writing thread busy while the block runs."""
    gate = threading.Event()
    store._connections._writing.submit(gate.wait, 60)
    try:
        yield
    finally:
        gate.set()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def plant(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception, *, after: bool = False
) -> None:
    """Make the next call of a method of Database raise: before, or `after`, it has done its work."""
    real = getattr(Database, method)
    left = [error]

    def call(self: Database, *args: Any, **names: Any) -> Any:
        if left and not after:
            raise left.pop()
        result = real(self, *args, **names)
        if left:
            raise left.pop()
        return result

    monkeypatch.setattr(Database, method, call)


@pytest.mark.parametrize("operation", ["sync", "write"])
async def test_a_commit_on_a_failing_disk_is_unavailable_and_settled_by_a_retry(
    store: SqliteStore, disk: FailingDisk, operation: str
) -> None:
    await record(store, SetBalance(user_id="ada", balance=10))
    with disk.down(operation):
        for _ in range(3):
            with pytest.raises(StoreUnavailableError):
                await commit(store, CHARGE)
        assert disk.failures
    [outcome] = await commit(store, CHARGE)
    assert isinstance(outcome, Recorded | Replayed)
    assert [one.amount for one in await whole_history(store, "ada")] == [10, -2]
    assert (await store.account("ada")).balance == 8


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("operation", ["sync", "write"])
async def test_nothing_that_was_acknowledged_is_lost_when_the_disk_fails_at_any_point(
    store: SqliteStore, disk: FailingDisk, operation: str
) -> None:
    acknowledged = []
    for number in range(24):
        if number % 4 == 3:
            with disk.down(operation), pytest.raises(StoreUnavailableError):
                await record(store, TopUp(user_id=f"u-{number % 3}", amount=1))
        acknowledged += await record(store, TopUp(user_id=f"u-{number % 3}", amount=1))
    for user_id in ("u-0", "u-1", "u-2"):
        history = await whole_history(store, user_id, page=3)
        assert [one for one in acknowledged if one.user_id == user_id] == [
            one for one in history if one in acknowledged
        ]
        assert [one.sequence for one in history] == list(range(1, len(history) + 1))
        account = await store.account(user_id)
        assert account.balance == sum(one.amount for one in history)


@pytest.mark.parametrize("error", [apsw.IOError("injected"), MemoryError(), OSError("injected")])
async def test_a_commit_that_fails_after_it_was_written_is_not_forgotten(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nobody got an answer that it was stored, but it was: the next one follows from it."""
    await record(store, SetBalance(user_id="ada", balance=10))
    plant(monkeypatch, "append_log", error, after=True)
    with pytest.raises(StoreUnavailableError):
        await commit(store, CHARGE, ONE)
    assert (await record(store, ONE))[0].balance_before == 9
    assert isinstance((await commit(store, CHARGE))[0], Replayed)
    assert [one.amount for one in await whole_history(store, "ada")] == [10, -2, 1, 1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "error", [apsw.IOError("injected"), MemoryError(), OSError("injected"), ValueError("a fault")]
)
async def test_a_batch_that_could_not_be_flushed_comes_back_from_the_commit_log(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plant(monkeypatch, "flush_unsynced", error)
    for number in range(30):
        try:
            await record(store, TopUp(user_id=f"u-{number % 3}", amount=1))
        except StoreUnavailableError:
            await record(store, TopUp(user_id=f"u-{number % 3}", amount=1))
    assert [account.balance for account in await all_accounts(store)] == [10, 10, 10]
    for user_id in ("u-0", "u-1", "u-2"):
        assert len(await whole_history(store, user_id)) == 10


@pytest.mark.parametrize("whose", ["_writer", "_reader"])
async def test_a_connection_that_breaks_is_replaced(store: SqliteStore, whose: str) -> None:
    await record(store, ONE)
    await store.ping()
    getattr(store._connections, whose).close()
    for attempt in (store.ping, lambda: record(store, ONE)):
        try:
            await attempt()
        except StoreUnavailableError:
            await attempt()
    assert (await store.account("ada")).balance == 2
    assert len(await whole_history(store, "ada")) == 2


async def test_a_failing_read_is_unavailable_and_the_next_one_is_served(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(store, ONE)
    await store.accounts("", 1)  # so that the history is in the tables
    plant(monkeypatch, "history", apsw.IOError("injected"))
    with pytest.raises(StoreUnavailableError):
        await store.history("ada", 2**53, 10)
    assert len(await store.history("ada", 2**53, 10)) == 1
    [second] = await record(store, ONE)
    assert second.sequence == 2


async def test_a_ledger_that_is_gone_is_not_replaced_by_an_empty_one(
    path: Path, disk: FailingDisk
) -> None:
    store = await SqliteStore.open(path, vfs=disk.name)
    await record(store, SetBalance(user_id="ada", balance=10))
    away = path.with_name("away")
    with disk.down("write"), pytest.raises(StoreUnavailableError):
        await commit(store, ONE)
    path.rename(away)
    with pytest.raises(StoreUnavailableError):
        await commit(store, ONE)
    with pytest.raises(StoreUnavailableError):
        await store.account("bob")
    assert not path.exists()
    away.rename(path)
    assert (await record(store, ONE))[0].balance_after == 11
    await store.close()


async def test_an_unusable_file_at_reopening_is_unavailable_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore, disk: FailingDisk
) -> None:
    with disk.down("write"), pytest.raises(StoreUnavailableError):
        await commit(store, ONE)
    plant(monkeypatch, "migrate", StoreConfigurationError("newer"))
    with pytest.raises(StoreUnavailableError):
        await commit(store, ONE)
    assert await record(store, ONE)


async def test_a_scan_that_is_cancelled_while_it_flushes_loses_nothing(store: SqliteStore) -> None:
    made = await record(store, *(TopUp(user_id=f"u-{n}", amount=1) for n in range(12)))
    with busy_writer(store):
        scan = asyncio.create_task(store.accounts("", 10))
        await settle()
        scan.cancel()
        await asyncio.gather(scan, return_exceptions=True)
    assert len(await all_accounts(store, 5)) == 12
    for one in made:
        assert await store.transaction(one.user_id, 1) == one


async def test_an_append_that_is_cancelled_half_way_is_not_overlooked(store: SqliteStore) -> None:
    [first] = await record(store, ONE)
    second = msgspec.structs.replace(first, sequence=2, balance_after=2, salt="")
    with busy_writer(store):
        task = asyncio.create_task(store.append([second]))
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    [third] = await record(store, ONE)
    assert (third.sequence, third.balance_before) == (3, 2)


async def test_a_commit_that_is_cancelled_half_way_is_not_overlooked(store: SqliteStore) -> None:
    await record(store, SetBalance(user_id="ada", balance=10))
    with busy_writer(store):
        task = asyncio.create_task(commit(store, CHARGE))
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    [outcome] = await commit(store, CHARGE)
    assert replayed(outcome).sequence == 2
    assert (await store.account("ada")).balance == 8


async def test_a_reopening_that_is_cancelled_half_way_leaves_nothing_stale(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed commit was stored after all; who reopens is cancelled; the next one must know."""
    await record(store, SetBalance(user_id="ada", balance=10))
    plant(monkeypatch, "append_log", apsw.IOError("injected"), after=True)
    with pytest.raises(StoreUnavailableError):
        await commit(store, CHARGE)
    inside, go_on = threading.Event(), threading.Event()
    checkpoint = Database.checkpoint

    def held(self: Database) -> None:
        inside.set()
        go_on.wait(60)
        checkpoint(self)

    monkeypatch.setattr(Database, "checkpoint", held)
    task = asyncio.create_task(store.ping())
    await asyncio.to_thread(inside.wait, 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go_on.set()
    await asyncio.to_thread(store._connections._writing.submit(lambda: None).result)
    [outcome] = await commit(store, ONE)
    assert isinstance(outcome, Recorded)
    assert (outcome.transaction.sequence, outcome.transaction.balance_before) == (3, 8)
    assert len(await whole_history(store, "ada")) == 3


async def test_a_close_that_is_cancelled_lets_go_of_the_file_all_the_same(path: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, ONE)
    with busy_writer(store):
        task = asyncio.create_task(store.close())
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.close()
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 1
    await store.close()


async def test_closing_does_not_hold_up_the_event_loop(path: Path) -> None:
    store = await SqliteStore.open(path)
    with busy_writer(store):
        closing = asyncio.create_task(store.close())
        await settle()
        assert not closing.done()
    await closing


async def test_after_closing_every_write_is_unavailable(path: Path) -> None:
    store = await SqliteStore.open(path)
    made = await record(store, ONE)
    await store.close()
    for call in (
        lambda: commit(store, ONE),
        lambda: store.append(made),
        lambda: store.accounts("", 1),
        lambda: store.account("bob"),
        store.ping,
    ):
        with pytest.raises(StoreUnavailableError):
            await call()


async def test_closing_again_does_not_close_what_others_opened_since(
    path: Path, tmp_path: Path
) -> None:
    """A descriptor that was let go is given to the next file that is opened."""
    store = await SqliteStore.open(path)
    await store.close()
    files = [(tmp_path / str(number)).open("w") for number in range(20)]
    await store.close()
    for file in files:
        file.write("still open")
        file.close()


async def test_an_error_after_a_group_is_durable_does_not_say_that_nothing_was_stored(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would commit it again: without a key it would be recorded twice."""

    def broken(*_: Any) -> None:
        raise ValueError("A bug.")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "add", broken)
        with pytest.raises(StoreUnavailableError):
            await commit(store, ONE)
    await commit(store, ONE)
    assert [one.amount for one in await whole_history(store, "ada")] == [1, 1]
