"""`restore`: a verified backup in the place of a ledger, and nothing by halves."""

import itertools
import sqlite3
import stat
from pathlib import Path

import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.maintenance.restore import DamagedBackupError, restore
from entitlements_server.stores.interface import (
    BackupError,
    StoreConfigurationError,
    StoreInUseError,
)
from entitlements_server.stores.sqlite import SqliteStore, backup
from entitlements_server.stores.sqlite.backup import LedgerFile
from support.ledger import CHARGE, NOW_US, commit, record, recorded
from support.server_process import run

ONE = TopUp(user_id="ada", amount=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "ledger.sqlite"


@pytest.fixture
async def copy(path: Path, tmp_path: Path) -> Path:
    """A backup with ten tokens; the ledger has had a charge since."""
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="ada", amount=10))
    await store.accounts("", 1)  # so that it is in the tables
    made = tmp_path / "backup.sqlite"
    LedgerFile(path).backup(made)
    await record(store, CHARGE, now_us=NOW_US + 1)
    await store.close()
    return made


async def test_a_backup_that_verify_only_warns_of_is_restored(path: Path, tmp_path: Path) -> None:
    """A clock ran ahead once, which is no damage."""
    store = await SqliteStore.open(path)
    await record(store, ONE, now_us=NOW_US + 3_600_000_000)
    await record(store, ONE)
    made = tmp_path / "backup.sqlite"
    LedgerFile(path).backup(made)
    await store.close()
    assert (await restore(url(path), made)).transactions == 2


def url(path: Path) -> str:
    return f"sqlite://{path}"


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


async def test_a_backup_takes_the_place_of_the_ledger_which_is_kept(path: Path, copy: Path) -> None:
    before = copy.read_bytes()
    store = await SqliteStore.open(path)
    first = await store.identity()
    await store.close()
    restored = await restore(url(path), copy)
    assert (restored.accounts, restored.transactions, restored.newest_us) == (1, 1, NOW_US)
    assert restored.identity == first.successor
    assert copy.read_bytes() == before
    assert restored.replaced is not None
    assert names(path) == ["ledger.sqlite", restored.replaced.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    old = await SqliteStore.open(restored.replaced)
    assert (await old.account("ada")).balance == 8
    assert await old.identity() == first
    await old.close()
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 10
    assert await store.identity() == first.successor
    # The key is free again.
    assert recorded((await commit(store, CHARGE))[0]).sequence == 2
    await store.close()


async def test_each_restore_gets_a_generation_that_was_never_there(path: Path, copy: Path) -> None:
    seen = [(await restore(url(path), copy)).identity.generation for _ in range(3)]
    assert seen == [2, 3, 4]
    # Whatever it was before: it is gone, or cannot be read.
    path.unlink()
    seen.append((await restore(url(path), copy)).identity.generation)
    path.write_bytes(b"damaged" * 1000)
    seen.append((await restore(url(path), copy)).identity.generation)
    assert seen == sorted(seen)
    assert min(seen[3:]) > 1_000_000


async def test_a_ledger_goes_aside_with_its_log_and_stays_whole(path: Path, copy: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="bob", amount=7))
    await store._connections.close(checkpoint=False)
    log = path.with_name("ledger.sqlite-wal")
    header = path.read_bytes()
    path.write_bytes(b"x" * 100 + header[100:])  # so that restore cannot read it
    assert log.stat().st_size
    restored = await restore(url(path), copy)
    aside = restored.replaced
    assert aside is not None
    assert names(path) == ["ledger.sqlite", aside.name, f"{aside.name}-wal"]
    aside.write_bytes(header)
    old = await SqliteStore.open(aside)
    assert (await old.account("bob")).balance == 7
    await old.close()


async def test_a_missing_ledger_is_restored_beside_its_old_log(path: Path, copy: Path) -> None:
    """Which `serve` refuses to begin beside, and which would damage a file that is copied there."""
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="bob", amount=7))
    await store._connections.close(checkpoint=False)
    path.unlink()
    with pytest.raises(StoreConfigurationError, match="There is no ledger"):
        await SqliteStore.open(path)
    await restore(url(path), copy)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 10
    assert (await store.account("bob")).balance == 0
    await store.close()


async def test_a_damaged_backup_is_refused_and_changes_nothing(path: Path, copy: Path) -> None:
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM idempotency_keys")
        connection.execute("UPDATE accounts SET stored = replace(stored, ':10', ':11')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DamagedBackupError) as caught:
        await restore(url(path), copy)
    assert caught.value.findings
    assert path.read_bytes() == before
    assert names(path) == ["ledger.sqlite"]


@pytest.mark.parametrize("content", [b"", b"no ledger at all " * 500])
async def test_what_is_no_backup_is_refused(path: Path, copy: Path, content: bytes) -> None:
    copy.write_bytes(content)
    with pytest.raises(BackupError):
        await restore(url(path), copy)
    with pytest.raises(BackupError, match="There is no ledger"):
        await restore(url(path), copy.with_name("nowhere"))
    with pytest.raises(StoreConfigurationError, match="is the ledger itself"):
        await restore(url(path), path)
    with pytest.raises(StoreConfigurationError, match="no SQLite file"):
        await restore("memory://", copy)
    with pytest.raises(StoreConfigurationError, match="There is no folder"):
        await restore(url(path / "no" / "folder"), copy)
    assert names(path) == ["ledger.sqlite"]


async def test_a_ledger_in_use_is_not_replaced(path: Path, copy: Path) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(StoreInUseError, match="is in use"):
        await restore(url(path), copy)
    await record(store, ONE)
    await store.close()
    assert names(path) == ["ledger.sqlite"]


class PowerLossError(BaseException):
    pass


def lose_power(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the power go at a step of putting a ledger in place."""
    left = itertools.count(1 - step)
    put = LedgerFile.put_in_place

    def stop_at(name: str) -> None:
        real = getattr(backup, name)

        def call(*arguments: object) -> object:
            if next(left) == 0:
                raise PowerLossError
            return real(*arguments)

        monkeypatch.setattr(backup, name, call)

    def put_in_place(self: LedgerFile, file: Path) -> Path | None:
        for name in ("_mark", "_move", "sync_folder"):
            stop_at(name)
        return put(self, file)

    monkeypatch.setattr(LedgerFile, "put_in_place", put_in_place)


@pytest.mark.parametrize("step", range(1, 9))
async def test_a_restore_that_is_interrupted_anywhere_is_finished_by_the_next_one(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Until then no server makes an empty ledger, or puts a log beside the wrong file."""
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="bob", amount=7))
    await store._connections.close(checkpoint=False)
    content = path.read_bytes()
    path.write_bytes(b"x" * 100 + content[100:])  # it can't be read, so its log stays beside it
    lose_power(monkeypatch, step)
    with pytest.raises(PowerLossError):
        await restore(url(path), copy)
    monkeypatch.undo()
    if 2 <= step <= 7:
        with pytest.raises(StoreConfigurationError, match="run `restore` again"):
            await SqliteStore.open(path)
    await restore(url(path), copy)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 10
    assert (await store.account("bob")).balance == 0
    await store.close()
    # The old ledger is whole, under whichever name: its log is beside it.
    [log] = [one for one in names(path) if one.endswith("-wal")]
    old = path.with_name(log.removesuffix("-wal"))
    assert old.exists()
    old.write_bytes(content)
    store = await SqliteStore.open(old)
    assert (await store.account("bob")).balance == 7
    await store.close()


@pytest.mark.slow
async def test_the_command_says_what_is_lost_and_where_the_old_ledger_is(
    path: Path, copy: Path
) -> None:
    done = run("restore", str(copy), "--store", url(path))
    assert done.returncode == 0, done.stderr
    assert "1 accounts, 1 transactions" in done.stdout
    assert "generation 2" in done.stdout
    assert "Its newest transaction is of 2026-09-21T14:13:20Z." in done.stdout
    assert "keys used since then are free again" in done.stdout
    assert f"The ledger that was there is {path}.replaced-" in done.stdout
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM transactions")
    connection.close()
    damaged = run("restore", str(copy), "--store", url(path))
    assert damaged.returncode == 3
    assert "user 'ada'" in damaged.stdout
    assert "The ledger was not changed" in damaged.stderr
