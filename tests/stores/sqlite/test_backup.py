"""Backups: whole or not at all."""

import os
import stat
from pathlib import Path

import apsw
import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.maintenance.snapshot import open_snapshot
from entitlements_server.stores.interface import (
    BackupError,
    DamagedLedgerError,
    StoreConfigurationError,
)
from entitlements_server.stores.sqlite import SqliteStore, backup, connections
from entitlements_server.stores.sqlite import store as store_module
from entitlements_server.stores.sqlite.backup import LedgerFile
from support.ledger import rule_at


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    return await SqliteStore.open(tmp_path / "ledger.sqlite")


async def top_up(store: SqliteStore, times: int) -> None:
    commands = [TopUp(user_id=f"user-{number}", amount=1) for number in range(times)]
    await store.commit(commands, rule_at(1))


async def test_a_copy_holds_what_was_committed_and_not_what_came_later(
    store: SqliteStore, tmp_path: Path
) -> None:
    await top_up(store, 1000)
    told: list[tuple[int, int]] = []
    size = LedgerFile(tmp_path / "ledger.sqlite").backup(
        tmp_path / "copy", progress=lambda *far: told.append(far)
    )
    await top_up(store, 1000)
    await store.close()
    assert size == (tmp_path / "copy").stat().st_size
    assert told[-1][0] == told[-1][1] > 0
    copy = await SqliteStore.open(tmp_path / "copy")
    assert (await copy.account("user-0")).balance == 1
    await copy.close()


async def test_an_existing_file_is_replaced_only_with_replace(
    store: SqliteStore, tmp_path: Path
) -> None:
    ledger, copy = tmp_path / "ledger.sqlite", tmp_path / "copy"
    copy.write_text("precious")
    with pytest.raises(BackupError, match="--replace"):
        LedgerFile(ledger).backup(copy)
    assert copy.read_text() == "precious"
    LedgerFile(ledger).backup(copy, replace=True)
    assert copy.read_bytes().startswith(b"SQLite format 3")
    with pytest.raises(BackupError, match="the ledger itself"):
        LedgerFile(ledger).backup(ledger, replace=True)
    await store.close()


async def test_a_backup_that_fails_leaves_nothing_under_its_name(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.close()
    folder = tmp_path / "backups"
    folder.mkdir()
    other = tmp_path / "other.sqlite"
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    (tmp_path / "text").write_text("no database, but long enough to be read as one" * 100)
    for source, problem in (
        (tmp_path / "nowhere", "no ledger"),
        (other, "a database of another program"),
        (tmp_path / "text", "could not be copied"),
    ):
        with pytest.raises(BackupError, match=problem):
            LedgerFile(source).backup(folder / "copy")
        assert list(folder.iterdir()) == []
    with pytest.raises(BackupError, match="cannot be written"):
        LedgerFile(tmp_path / "ledger.sqlite").backup(tmp_path / "no" / "folder")

    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(BackupError, match="No space left"):
        LedgerFile(tmp_path / "ledger.sqlite").backup(folder / "copy", progress=full)
    assert list(folder.iterdir()) == []


async def test_a_ledger_that_is_open_is_read_from_a_copy(
    store: SqliteStore, tmp_path: Path
) -> None:
    await top_up(store, 3)
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    async with open_snapshot(url) as opened:
        assert opened.copied
        assert (await opened.store.account("user-2")).balance == 1
    await store.close()
    async with open_snapshot(url) as opened:
        assert not opened.copied
        assert (await opened.store.account("user-2")).balance == 1


@pytest.mark.parametrize("url", ["memory://", "sqlite:///nowhere/ledger.sqlite", "sqlite:///"])
async def test_a_ledger_that_is_not_there_is_not_made_by_looking(url: str) -> None:
    with pytest.raises(StoreConfigurationError):
        async with open_snapshot(url):
            pass


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
async def test_what_is_no_file_is_not_replaced(
    store: SqliteStore, tmp_path: Path, what: str
) -> None:
    """A pipe would keep the command for ever; a device would be gone."""
    target = tmp_path / "target"
    if what == "folder":
        target.mkdir()
    elif what == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to("/dev/null")
    kind = stat.S_IFMT(target.stat().st_mode)
    with pytest.raises(BackupError, match="is no file"):
        LedgerFile(tmp_path / "ledger.sqlite").backup(target, replace=True)
    assert stat.S_IFMT(target.stat().st_mode) == kind
    await store.close()


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm", "-restoring", ".lock"])
async def test_a_backup_does_not_get_the_name_of_a_part_of_the_ledger(
    store: SqliteStore, tmp_path: Path, suffix: str
) -> None:
    """Nor the other way round: what lies beside the target is deleted."""
    await top_up(store, 1)
    await store.close()
    ledger = tmp_path / "ledger.sqlite"
    content = ledger.read_bytes()
    with pytest.raises(BackupError, match="a part of the ledger"):
        LedgerFile(ledger).backup(tmp_path / f"ledger.sqlite{suffix}", replace=True)
    odd = ledger.rename(tmp_path / f"copy{suffix}")
    with pytest.raises(BackupError, match="a part of a ledger"):
        LedgerFile(odd).backup(tmp_path / "copy", replace=True)
    assert odd.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [odd.name]


async def test_a_full_disk_is_called_full(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says "not an error" in a backup, and "disk I/O error" where a ledger is opened."""
    await store.close()
    ledger = tmp_path / "ledger.sqlite"

    def no_error(*_: object) -> None:
        raise apsw.FullError("not an error")

    monkeypatch.setattr(backup, "_copy", no_error)
    with pytest.raises(BackupError, match="the disk is full"):
        LedgerFile(ledger).backup(tmp_path / "copy")

    def io_error(*_: object) -> None:
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(connections, "recover", io_error)
    with pytest.raises(StoreConfigurationError, match="its disk is failing") as failing:
        await SqliteStore.open(ledger)
    assert not isinstance(failing.value, DamagedLedgerError)
    monkeypatch.setattr(store_module, "is_full", lambda _: True)
    with pytest.raises(StoreConfigurationError, match="its disk is full"):
        await SqliteStore.open(ledger)
