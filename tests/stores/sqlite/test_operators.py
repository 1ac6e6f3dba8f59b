"""The operator's hand: a ledger is known by what it is, and what lies beside it is part of it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import structlog
from structlog.testing import capture_logs

from entitlements_server.ledger.commands import SetBalance, TopUp
from entitlements_server.stores.interface import (
    BackupError,
    StoreConfigurationError,
    StoreInUseError,
    StoreUnavailableError,
)
from entitlements_server.stores.sqlite import SqliteStore, mounts
from entitlements_server.stores.sqlite.backup import LedgerFile
from support.disk import FailingDisk
from support.ledger import CHARGE, commit, record, replayed, whole_history
from support.server_process import run

ONE = TopUp(user_id="ada", amount=1)
CHILD = Path(__file__).with_name("child.py")


@pytest.fixture(autouse=True)
def _fresh_log() -> Iterator[None]:
    """`capture_logs` sees what loggers that no other test has cached write."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def files(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


async def refusal(path: Path) -> str:
    with pytest.raises(StoreConfigurationError) as caught:
        await SqliteStore.open(path)
    return str(caught.value)


def killed(path: Path) -> None:
    """Leave a ledger as a killed server does: with the newest transactions in its write-ahead log."""
    with subprocess.Popen(
        [sys.executable, str(CHILD), str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(30):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert path.with_name(path.name + "-wal").stat().st_size > 0


def read_elsewhere(path: Path) -> None:
    """Read the ledger in another process, which closes it at the end."""
    script = (
        "import sqlite3, sys; it = sqlite3.connect(sys.argv[1]);"
        " it.execute('SELECT * FROM accounts').fetchall(); it.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=30)


class Reader:
    """Another program that reads the ledger for as long as the block runs."""

    def __init__(self, path: Path) -> None:
        self.connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT * FROM sqlite_schema").fetchall()

    def __exit__(self, *_: object) -> None:
        self.connection.close()


# B1


async def test_a_stop_leaves_one_file_that_alone_holds_everything(path: Path) -> None:
    for balance in range(1, 31):
        store = await SqliteStore.open(path)
        await record(store, ONE)
        await store.ping()  # opens the reading connection
        await store.close()
        assert files(path) == ["ledger.sqlite"]
        alone = path.parent / "elsewhere" / "copy.sqlite"
        alone.parent.mkdir()
        alone.write_bytes(path.read_bytes())
        copy = await SqliteStore.open(alone)
        assert (await copy.account("ada")).balance == balance
        await copy.close()
        alone.unlink()
        alone.parent.rmdir()


async def test_a_stop_beside_a_reader_says_that_two_files_belong_together(path: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, ONE)
    with capture_logs() as log, Reader(path):
        await record(store, ONE)
        await store.close()
    [warning] = [one for one in log if one["log_level"] == "warning"]
    assert "copy both files" in warning["event"]
    await (await SqliteStore.open(path)).close()
    assert files(path) == ["ledger.sqlite"]


async def test_a_backup_of_a_stopped_ledger_leaves_it_as_one_file(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    LedgerFile(path).backup(path.with_name("copy"))
    assert files(path) == ["copy", "ledger.sqlite"]


# B2


async def test_a_hard_link_is_refused_whether_a_server_has_the_file_or_not(path: Path) -> None:
    store = await SqliteStore.open(path)
    other = path.with_name("other.sqlite")
    other.hardlink_to(path)
    assert "is in use by process" in await refusal(other)
    await record(store, ONE)
    await store.close()
    for name in (path, other):
        message = await refusal(name)
        assert "2 names (hard links)" in message
        assert "find FOLDER -samefile" in message
    other.unlink()
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 1
    await store.close()


async def test_the_lock_holds_whatever_is_deleted_beside_the_ledger(path: Path) -> None:
    store = await SqliteStore.open(path)
    for beside in path.parent.iterdir():
        if beside.name.endswith(".lock"):
            beside.unlink()
    second = run("serve", "--listen", "127.0.0.1:0", "--store", f"sqlite://{path}")
    assert second.returncode == 1
    assert f"in use by process {os.getpid()}" in second.stderr
    await store.close()


async def test_a_refused_second_store_does_not_loosen_the_locks_of_the_first(path: Path) -> None:
    """Closing any descriptor of a file drops all locks that SQLite has on it in this process."""
    store = await SqliteStore.open(path)
    await record(store, ONE)
    with pytest.raises(StoreInUseError):
        await SqliteStore.open(path)
    other = path.with_name("other.sqlite")
    await (await SqliteStore.open(other)).close()
    with pytest.raises(BackupError, match="is in use by process"):
        LedgerFile(other).backup(path, replace=True)
    # Another process that closes as the last one, as far as it can see, would delete the log.
    read_elsewhere(path)
    assert path.with_name("ledger.sqlite-wal").exists()
    await store.close()


# B3


async def test_a_ledger_that_is_missing_beside_its_log_is_not_made_again(path: Path) -> None:
    killed(path)
    away = path.with_name("away.sqlite")
    path.rename(away)
    before = files(path)
    message = await refusal(path)
    assert f"There is no ledger {path}, but there is {path}-wal" in message
    assert "Put the ledger back" in message
    assert f"move {path}-wal away" in message
    assert files(path) == before
    # One way out: the ledger comes back, whole.
    away.rename(path)
    store = await SqliteStore.open(path)
    assert sum(account.balance for account in (await store.accounts("", 100)).accounts) >= 30
    await store.close()
    # The other one: a new ledger.
    path.rename(away)
    await (await SqliteStore.open(path)).close()


async def test_an_empty_file_beside_a_log_is_refused_as_a_missing_ledger_is(path: Path) -> None:
    killed(path)
    path.rename(path.with_name("away.sqlite"))
    path.touch()
    log = path.with_name("ledger.sqlite-wal").read_bytes()
    assert "There is no ledger" in await refusal(path)
    assert path.with_name("ledger.sqlite-wal").read_bytes() == log


async def test_a_ledger_that_is_missing_beside_an_old_lock_file_is_not_made_again(
    path: Path,
) -> None:
    path.with_name("ledger.sqlite.lock").touch()
    assert "ledger.sqlite.lock away" in await refusal(path)


async def test_a_new_ledger_is_announced_and_an_old_one_is_not(path: Path) -> None:
    with capture_logs() as log:
        store = await SqliteStore.open(path)
    identity = await store.identity()
    [line] = log
    assert line["event"] == "A new ledger was made."
    assert (line["file"], line["id"]) == (str(path), identity.id)
    await store.close()
    with capture_logs() as log:
        await (await SqliteStore.open(path)).close()
    assert log == []


# B4


async def test_a_backup_replaces_what_lies_beside_its_target_too(path: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, ONE)
    await store.close()
    folder = path.parent / "copies"
    folder.mkdir()
    target = folder / "copy.sqlite"
    killed(target)
    LedgerFile(path).backup(target, replace=True)
    assert [one.name for one in folder.iterdir()] == ["copy.sqlite"]
    copy = await SqliteStore.open(target)
    assert [one.user_id for one in (await copy.accounts("", 10)).accounts] == ["ada"]
    assert await copy.self_check() == []
    await copy.close()


async def test_a_log_without_its_file_is_in_the_way_of_a_backup(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    target = path.parent / "copies" / "copy.sqlite"
    target.parent.mkdir()
    killed(target)
    target.unlink()
    with pytest.raises(BackupError, match=r"copy\.sqlite-wal, which belongs to"):
        LedgerFile(path).backup(target)
    LedgerFile(path).backup(target, replace=True)
    assert [one.name for one in target.parent.iterdir()] == ["copy.sqlite"]


# B5


async def test_a_server_starts_beside_a_reader(path: Path) -> None:
    killed(path)
    with Reader(path):
        store = await SqliteStore.open(path)
        await record(store, ONE)
        assert (await store.account("ada")).balance == 1
        await store.close()


async def test_a_disk_error_beside_a_reader_is_recovered_from(path: Path) -> None:
    disk = FailingDisk("beside-a-reader")
    store = await SqliteStore.open(path, vfs=disk.name)
    await record(store, ONE)
    with Reader(path):
        await record(store, ONE)
        with disk.down("write"), pytest.raises(StoreUnavailableError):
            await record(store, ONE)
        await record(store, ONE)
        assert (await store.account("ada")).balance == 3
    await store.close()


async def test_a_ledger_that_another_program_writes_is_in_use_and_not_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entitlements_server.stores.sqlite.database._BUSY_MS", 50)
    killed(path)
    shell = apsw.Connection(str(path))
    shell.execute("BEGIN IMMEDIATE")
    assert "is being written by another program" in await refusal(path)
    shell.close()
    await (await SqliteStore.open(path)).close()


# B7


async def test_a_log_that_grew_beside_a_reader_shrinks_when_the_reader_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entitlements_server.stores.sqlite.database._WAL_BYTES", 256 * 1024)
    monkeypatch.setattr("entitlements_server.stores.sqlite.database.CHECKPOINT_PAGES", 20)
    store = await SqliteStore.open(path)
    await record(store, ONE)
    log = path.with_name("ledger.sqlite-wal")
    group = [TopUp(user_id=f"u-{n}", amount=1) for n in range(100)]
    with Reader(path):
        while log.stat().st_size < 2 * 1024 * 1024:
            await record(store, *group)
    for _ in range(20):
        await record(store, ONE)
    assert log.stat().st_size <= 256 * 1024
    await store.close()


# B8


async def test_reads_go_on_while_the_disk_is_full(path: Path) -> None:
    disk = FailingDisk("full")
    store = await SqliteStore.open(path, vfs=disk.name)
    await record(store, SetBalance(user_id="ada", balance=10), TopUp(user_id="bob", amount=5))
    await store.accounts("", 1)  # flushes
    await record(store, CHARGE)
    disk.error = apsw.FullError
    with disk.down("write"):
        with pytest.raises(StoreUnavailableError):
            await record(store, ONE)
        store._cache.clear()
        assert (await store.account("bob")).balance == 5
        assert (await store.account("nobody")).balance == 0
        assert (await store.account("ada")).balance == 8
        assert [one.amount for one in await whole_history(store, "ada")] == [10, -2]
        assert len(await store.history_after("bob", 0, 10)) == 1
        with pytest.raises(StoreUnavailableError):
            await store.ping()  # NOT_SERVING: it can't charge
        with pytest.raises(StoreUnavailableError):
            await record(store, ONE)
        assert (await store.account("bob")).balance == 5
    assert replayed((await commit(store, CHARGE))[0]).sequence == 2
    await record(store, ONE)
    await store.ping()
    assert (await store.account("ada")).balance == 9
    await store.close()


async def test_a_disk_that_fails_otherwise_serves_no_reads_that_may_not_be_on_it(
    path: Path,
) -> None:
    disk = FailingDisk("not-full")
    store = await SqliteStore.open(path, vfs=disk.name)
    await record(store, ONE)
    with disk.down("sync"):
        with pytest.raises(StoreUnavailableError):
            await record(store, ONE)
        with pytest.raises(StoreUnavailableError):
            await store.account("bob")
    await store.close()


# B13


async def test_what_a_ledger_consists_of_is_readable_by_its_owner_only(path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = await SqliteStore.open(path)
        await record(store, ONE)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert files(path) == ["ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal"]
        await store.close()
    finally:
        os.umask(before)


# Moved while serving


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
async def test_a_group_that_begins_after_the_ledger_lost_its_name_is_refused(
    path: Path, how: str
) -> None:
    store = await SqliteStore.open(path)
    await record(store, SetBalance(user_id="ada", balance=10))
    await store.ping()
    kept = path.with_name("kept.sqlite")
    kept.hardlink_to(path)
    if how == "moved":
        path.rename(path.with_name("elsewhere.sqlite"))
    elif how == "deleted":
        path.unlink()
    else:
        other = path.with_name("other.sqlite")
        other.write_bytes(b"another file")
        other.replace(path)
    for attempt in (lambda: record(store, ONE), store.ping):
        with pytest.raises(StoreUnavailableError) as caught:
            await attempt()
        assert "while it was in use" in str(caught.value.args[0])
    assert (await store.account("ada")).balance == 10
    path.unlink(missing_ok=True)
    path.with_name("elsewhere.sqlite").unlink(missing_ok=True)
    kept.rename(path)
    await record(store, ONE)
    await store.ping()
    await store.close()
    assert "elsewhere.sqlite" not in files(path)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 11
    await store.close()


async def test_a_store_that_is_closed_after_a_replacement_leaves_both_ledgers_as_they_are(
    path: Path,
) -> None:
    store = await SqliteStore.open(path)
    await record(store, ONE)
    path.rename(path.with_name("first.sqlite"))
    path.write_bytes(b"another file")
    log = path.with_name("ledger.sqlite-wal").read_bytes()
    await store.close()
    assert path.read_bytes() == b"another file"
    assert path.with_name("ledger.sqlite-wal").read_bytes() == log
    path.unlink()
    path.with_name("first.sqlite").rename(path)
    store = await SqliteStore.open(path)
    assert (await store.account("ada")).balance == 1
    await store.close()


@pytest.mark.parametrize("noticed_by", ["commit", "ping"])
async def test_a_log_that_was_deleted_while_serving_costs_nothing(
    path: Path, noticed_by: str
) -> None:
    store = await SqliteStore.open(path)
    await record(store, SetBalance(user_id="ada", balance=10))
    path.with_name("ledger.sqlite-wal").unlink()
    with pytest.raises(StoreUnavailableError):
        await (store.ping() if noticed_by == "ping" else record(store, ONE))
    await record(store, ONE)
    copy = path.with_name("copy.sqlite")
    LedgerFile(path).backup(copy)
    await store._connections.close(checkpoint=False)  # as if it were killed
    for one in (path, copy):
        store = await SqliteStore.open(one)
        assert (await store.account("ada")).balance == 11
        await store.close()


# Where a ledger is


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 1 0:1 / {ledger} rw - ext4 /dev/sda rw", "mounted as a single file"),
        ("1 1 0:1 / {folder} rw shared:1 - nfs4 host:/x rw", "network file system (nfs4)"),
        ("1 1 0:1 / {folder} rw - tmpfs x rw\n2 1 0:2 / {folder} rw - cifs //h/x rw", "(cifs)"),
    ],
)
async def test_a_ledger_is_refused_where_its_log_or_its_lock_would_not_hold(
    path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    table = path.with_name("mountinfo")
    root = "9 1 0:9 / / rw - ext4 /dev/root rw"
    written = line.format(ledger=path, folder=path.parent)
    table.write_text(f"{root}\n{written}\n3 1 0:3 / /elsewhere rw - nfs h:/ rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert words in await refusal(path)
    assert files(path) == ["mountinfo"]


async def test_a_mount_with_a_space_in_its_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("9 1 0:9 / / rw - ext4 x rw\n9 1 0:9 / /my\\040disk rw - nfs x rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert mounts.mount_of(Path("/my disk/x")) == mounts.Mount(Path("/my disk"), "nfs")
    assert mounts.mount_of(Path("/my")) == mounts.Mount(Path("/"), "ext4")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert mounts.mount_of(Path("/my")) is None


# Files of others


async def test_the_log_of_a_foreign_file_is_not_touched(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("PRAGMA journal_mode = wal")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.commit()
    log = path.with_name("ledger.sqlite-wal")
    content, kept = log.read_bytes(), log.with_name("kept")
    kept.write_bytes(content)
    main = path.read_bytes()
    foreign.close()
    path.write_bytes(main)
    log.write_bytes(content)
    before = log.stat()
    assert "a database of another program" in await refusal(path)
    assert (log.read_bytes(), path.read_bytes()) == (content, main)
    assert log.stat().st_mtime_ns == before.st_mtime_ns


async def test_the_journal_of_a_foreign_file_is_not_rolled_back(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("PRAGMA cache_size = 1")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.executemany("INSERT INTO theirs VALUES (?)", [("x" * 1000,)] * 200)
    foreign.commit()
    foreign.execute("UPDATE theirs SET a = a || 'y'")
    journal = path.with_name("ledger.sqlite-journal")
    main, content = path.read_bytes(), journal.read_bytes()
    assert content
    foreign.rollback()
    foreign.close()
    path.write_bytes(main)
    journal.write_bytes(content)
    assert "a database of another program" in await refusal(path)
    assert (path.read_bytes(), journal.read_bytes()) == (main, content)
