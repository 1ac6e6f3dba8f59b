"""`restore`: a verified backup in the place of a ledger, and nothing by halves."""

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.maintenance.restore import DamagedBackupError, restore
from entitlements_server.stores.interface import (
    BackupError,
    LedgerIdentity,
    StoreConfigurationError,
    StoreInUseError,
)
from entitlements_server.stores.sqlite import SqliteStore, backup, restore_mark
from entitlements_server.stores.sqlite.backup import LedgerFile
from entitlements_server.stores.sqlite.lock import FileLock
from support.ledger import CHARGE, NOW_US, commit, record, recorded, rule_at
from support.programs import command
from support.server_process import run
from support.waiting import until

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
    with pytest.raises(BackupError, match="is not there"):
        await restore(url(path), copy.with_name("nowhere"))
    with pytest.raises(BackupError, match="is no file"):
        await restore(url(path), path.parent)
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

    def stop_at(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: object) -> object:
            if next(left) == 0:
                raise PowerLossError
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    def put_in_place(self: LedgerFile, file: Path) -> Path | None:
        stop_at(restore_mark, "sync_folder")
        stop_at(backup, "_move")
        stop_at(backup, "sync_folder")
        return put(self, file)

    monkeypatch.setattr(LedgerFile, "put_in_place", put_in_place)


@pytest.mark.parametrize("step", range(1, 8))
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
    if step < 7:
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


async def test_a_second_restore_waits_its_turn_and_takes_nothing_from_the_first(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its mark, nor the ledger that it puts in place; no server starts in between either."""
    moved = backup._move
    seen: list[str] = []

    def move(old: Path, new: Path) -> bool:
        done = moved(old, new)
        monkeypatch.setattr(backup, "_move", moved)
        for begin in (
            lambda: LedgerFile(path).put_in_place(copy.with_name("second")),
            lambda: FileLock(path),
        ):
            with pytest.raises(StoreInUseError, match="is being restored by process") as caught:
                begin()
            seen.append(str(caught.value))
        return done

    copy.with_name("second").write_bytes(copy.read_bytes())
    monkeypatch.setattr(backup, "_move", move)
    restored = await restore(url(path), copy)
    assert len(seen) == 2
    assert restored.replaced is not None
    assert names(path) == ["ledger.sqlite", restored.replaced.name]
    assert copy.with_name("second").exists()


async def test_a_restore_whose_mark_cannot_be_written_leaves_the_ledger_usable(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: nothing was moved, so the server may start."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "pwrite", full)
        with pytest.raises(BackupError, match="No space left"):
            await restore(url(path), copy)
    assert names(path) == ["ledger.sqlite"]
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 8
    await store.close()


async def test_a_backup_of_another_ledger_is_refused_unless_that_is_wanted(
    path: Path, copy: Path
) -> None:
    store = await SqliteStore.open(path)
    await store.adopt(LedgerIdentity("f" * 32, 5))
    await store.close()
    with pytest.raises(StoreConfigurationError, match="add --other"):
        await restore(url(path), copy)
    assert names(path) == ["ledger.sqlite"]
    restored = await restore(url(path), copy, other=True)
    assert restored.identity.id != "f" * 32


async def test_a_ledger_and_a_backup_without_an_identity(path: Path, copy: Path) -> None:
    """Such a ledger can be replaced. Such a backup is damaged."""
    for file in (path, copy):
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM identity")
    with pytest.raises(DamagedBackupError) as caught:
        await restore(url(path), copy)
    assert "no identity" in str(caught.value.findings[0])
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("INSERT INTO identity VALUES (1, ?, 1)", ("a" * 32,))
    assert (await restore(url(path), copy)).identity.id == "a" * 32


async def test_a_truncated_backup_is_damaged(path: Path, copy: Path) -> None:
    content = copy.read_bytes()
    copy.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedBackupError) as caught:
        await restore(url(path), copy)
    assert str(copy) in str(caught.value.findings[0])
    assert ".restore-" not in str(caught.value.findings[0])
    assert names(path) == ["ledger.sqlite"]


async def test_a_backup_is_restored_over_an_empty_file_beside_a_log(path: Path, copy: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, TopUp(user_id="bob", amount=7))
    await store._connections.close(checkpoint=False)
    path.write_bytes(b"")
    await restore(url(path), copy)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 10
    await store.close()


@pytest.mark.parametrize("name", ["x" * 300, "\udcff.sqlite"])
async def test_a_name_that_cannot_be_is_refused_with_a_sentence(
    path: Path, copy: Path, name: str
) -> None:
    with pytest.raises((BackupError, StoreConfigurationError)):
        await restore(url(path), copy.with_name(name))
    with pytest.raises((BackupError, StoreConfigurationError)):
        LedgerFile(path).backup(copy.with_name(name))
    assert names(path) == ["ledger.sqlite"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "of_ctrl_c"),
    [
        pytest.param(signal.SIGTERM, signal.SIG_DFL, id="SIGTERM"),
        pytest.param(signal.SIGHUP, signal.SIG_DFL, id="SIGHUP"),
        pytest.param(signal.SIGINT, signal.SIG_DFL, id="SIGINT"),
        pytest.param(signal.SIGTERM, signal.SIG_IGN, id="SIGTERM in the background of a shell"),
    ],
)
async def test_a_restore_that_gets_a_signal_removes_its_copy(
    path: Path, copy: Path, number: int, of_ctrl_c: signal.Handlers
) -> None:
    store = await SqliteStore.open(path)
    for start in range(0, 20_000, 1000):
        users = [TopUp(user_id=f"user-{one}", amount=1) for one in range(start, start + 1000)]
        await store.commit(users, rule_at(NOW_US))
    await store.close()
    LedgerFile(path).backup(copy, replace=True)
    # Slower than this test, so that the signal comes before it is done, however busy the machine is.
    program = ["nice", "-n", "19", command("entitlements-server")]
    program += ["restore", str(copy), "--store", url(path)]

    def begin() -> None:
        # Whoever runs the tests may ignore signals, as nohup does.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, of_ctrl_c)

    process = subprocess.Popen(  # noqa: ASYNC220  # it begins at once
        program,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=begin,  # noqa: PLW1509  # it only sets handlers
    )
    await until(lambda: bool(list(path.parent.glob(".restore-*/*-wal"))))
    process.send_signal(number)
    assert process.wait(60) != 0
    assert names(path) == ["ledger.sqlite"]


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
    assert f"What was there is {path}.replaced-" in done.stdout
    with sqlite3.connect(copy) as connection:
        connection.execute("DELETE FROM transactions")
    connection.close()
    damaged = run("restore", str(copy), "--store", url(path))
    assert damaged.returncode == 3
    assert "user 'ada'" in damaged.stdout
    assert "The ledger was not changed" in damaged.stderr
