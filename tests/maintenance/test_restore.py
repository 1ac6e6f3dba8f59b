"""`restore`: a verified backup in the place of a ledger, and nothing by halves."""

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.maintenance import restore as restore_module
from entitlements_server.maintenance.restore import DamagedBackupError, restore
from entitlements_server.stores.interface import (
    BackupError,
    StoreConfigurationError,
    StoreInUseError,
)
from entitlements_server.stores.sqlite import SqliteStore, backup
from entitlements_server.stores.sqlite.backup import LedgerFile
from support.ledger import NOW_US, CHARGE, commit, record, recorded
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
    made = tmp_path / "backup.sqlite"
    LedgerFile(path).backup(made)
    await record(store, CHARGE, now_us=NOW_US + 1)
    await store.close()
    return made


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
    seen = []
    for _ in range(3):
        seen.append((await restore(url(path), copy)).identity.generation)
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


@pytest.mark.parametrize("step", range(1, 9))
async def test_a_restore_that_is_interrupted_anywhere_is_finished_by_the_next_one(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Until then no server makes an empty ledger, or puts a log beside the wrong file."""
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="bob", amount=7))
    await store._connections.close(checkpoint=False)
    content = path.read_bytes()
    path.write_bytes(b"x" * 100 + content[100:])  # the log stays beside it
    left = [step]

    class PowerLossError(BaseException):
        pass

    def stop_after(name: str) -> None:
        real = getattr(backup, name) if hasattr(backup, name) else getattr(Path, name)

        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise PowerLossError
            return real(*arguments)

        monkeypatch.setattr(backup if hasattr(backup, name) else Path, name, call)

    with monkeypatch.context():
        for name in ("sync_folder", "_move", "_mark"):
            stop_after(name)
        real_put = LedgerFile.put_in_place

        def put(self: LedgerFile, file: Path) -> Path | None:
            left[0] = step  # what came before was the backup
            return real_put(self, file)

        monkeypatch.setattr(LedgerFile, "put_in_place", put)
        left[0] = 10**9
        interrupted = False
        try:
            await restore(url(path), copy)
        except PowerLossError:
            interrupted = True
    monkeypatch.undo()
    aside = [one for one in names(path) if ".replaced-" in one and not one.endswith("-wal")]
    if interrupted and path.with_name("ledger.sqlite-restoring").exists():
        with pytest.raises(StoreConfigurationError, match="run `restore` again"):
            await SqliteStore.open(path)
    await restore(url(path), copy)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 10
    assert (await store.account("bob")).balance == 0
    await store.close()
    # The old ledger has its log beside it, under whichever name.
    olds = [one for one in names(path) if one.endswith("-wal")]
    assert len(olds) == 1
    old = path.with_name(olds[0].removesuffix("-wal"))
    assert old.exists()
    assert not aside or old.name in {*aside, *names(path)}
    old.write_bytes(content)
    store = await SqliteStore.open(old)
    assert (await store.account("bob")).balance == 7
    await store.close()


def test_the_command_says_what_is_lost(tmp_path: Path) -> None:
    ledger, copy = tmp_path / "ledger.sqlite", tmp_path / "backup.sqlite"
    made = run("serve", "--help")
    assert made.returncode == 0
    with sqlite3.connect(copy) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    refused = run("restore", str(copy), "--store", url(ledger))
    assert refused.returncode == 1
    assert "a database of another program" in refused.stderr
    assert not ledger.exists()
