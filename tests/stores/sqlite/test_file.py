"""Opening a ledger file: who may, what is refused, and what is recovered."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.stores.format import FORMAT
from entitlements_server.stores.interface import BackupError, StoreConfigurationError
from entitlements_server.stores.sqlite import SqliteStore, writer
from entitlements_server.stores.sqlite.backup import LedgerFile
from entitlements_server.stores.sqlite.database import Database, migrations
from support.ledger import all_accounts, record, whole_history

CHILD = Path(__file__).with_name("child.py")
"""Commits and prints what was acknowledged, for ever."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def child(path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(path)], stdout=subprocess.PIPE, text=True
    )


def crash(*_: object) -> None:
    raise OSError("crash")


async def refusal(path: Path) -> str:
    with pytest.raises(StoreConfigurationError) as caught:
        await SqliteStore.open(path)
    return str(caught.value)


async def test_a_second_process_is_refused_with_who_has_the_file(path: Path) -> None:
    with child(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert await refusal(path) == (
            f"The ledger {path} is in use by process {process.pid}: stop that process first,"
            " or name another file."
        )
        process.kill()


async def test_a_second_store_in_the_same_process_is_refused(path: Path) -> None:
    store = await SqliteStore.open(path)
    assert "is in use by process" in await refusal(path)
    await record(store, TopUp(user_id="ada", amount=1))
    await store.close()


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_second_name_of_the_same_file_is_refused_too(path: Path, what: str) -> None:
    store = await SqliteStore.open(path)
    if what == "file":
        other = path.with_name("other.sqlite")
        other.symlink_to(path)
    else:
        folder = path.with_name("folder")
        folder.symlink_to(path.parent)
        other = folder / path.name
    assert "is in use by process" in await refusal(other)
    await store.close()


async def test_a_refused_open_holds_no_lock(path: Path) -> None:
    path.write_text("no database at all, just some text\n" * 100)
    await refusal(path)
    path.unlink()
    await (await SqliteStore.open(path)).close()


async def test_after_closing_another_may_open_it(path: Path) -> None:
    for balance in (1, 2, 3):
        store = await SqliteStore.open(path)
        [made] = await record(store, TopUp(user_id="ada", amount=1))
        assert made.balance_after == balance
        await store.close()


@pytest.mark.parametrize("count", [1, 40, 300])
async def test_sigkill_frees_the_file_and_loses_nothing_that_was_acknowledged(
    path: Path, count: int
) -> None:
    """The child is killed while a part of its commit log is flushed, and another part is not."""
    with child(path) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().split() for _ in range(count)]
        process.kill()
        assert process.wait() == -signal.SIGKILL
        acknowledged += [line.split() for line in process.stdout if line.endswith("\n")]
    store = await SqliteStore.open(path)
    for user_id, transaction_id in acknowledged:
        found = await store.transaction(user_id, int(transaction_id.partition("-")[0]))
        assert found is not None
        assert found.transaction_id == transaction_id
    for account in await all_accounts(store):
        history = await whole_history(store, account.user_id, page=50)
        assert [one.sequence for one in history] == list(range(1, account.transaction_count + 1))
        assert sum(one.amount for one in history) == account.balance
    await store.close()


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("no database at all, just some text\n" * 100)
    message = await refusal(path)
    assert message.startswith(f"The ledger {path} cannot be opened: it is not a ledger")


async def test_a_truncated_ledger_is_refused(path: Path) -> None:
    store = await SqliteStore.open(path)
    await record(store, *(TopUp(user_id=f"u-{n}", amount=1) for n in range(2000)))
    await store.close()
    with path.open("r+b") as file:
        file.truncate(8192)
    assert "it is damaged" in await refusal(path)


async def test_a_commit_log_that_cannot_be_read_is_refused_and_holds_no_lock(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO commit_log (transactions) VALUES ('[[1,')")
    connection.close()
    assert "it is damaged" in await refusal(path)
    assert "it is damaged" in await refusal(path)


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    assert await refusal(path) == (
        f"The file {path} is a database of another program: name another file."
    )
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    connection.close()


async def test_a_folder_that_does_not_exist_is_refused(path: Path) -> None:
    assert "its folder must exist and be writable" in await refusal(path / "deeper")


async def test_another_major_format_is_refused_and_left_as_it_is(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2003")
    connection.close()
    before = path.read_bytes()
    assert await refusal(path) == (
        f"The ledger {path} has format 2.3 and this version reads formats 1.x; it was not"
        " changed. Run the version that wrote it."
    )
    assert path.read_bytes() == before


async def test_a_ledger_from_before_the_first_release_is_refused_with_a_sentence(
    path: Path,
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE journal (position INTEGER PRIMARY KEY, transactions TEXT)")
        connection.execute("CREATE TABLE idempotency_keys (account, idempotency_key, sequence)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    assert await refusal(path) == (
        f"The ledger {path} was written before the first release, in a format that is no longer"
        " read; it was not changed. Name another file."
    )
    assert path.read_bytes() == before
    with pytest.raises(BackupError, match="before the first release"):
        LedgerFile(path).backup(path.with_name("copy"))


def test_every_minor_version_has_its_step_of_the_schema() -> None:
    assert len(migrations()) == FORMAT.minor + 1


def test_the_schema_is_brought_up_to_date_step_by_step(path: Path) -> None:
    database = Database(path, create=True)
    database.migrate(path, ["CREATE TABLE one (a); INSERT INTO one VALUES (1)"])
    database.migrate(path, ["unused, for it is done", "ALTER TABLE one ADD COLUMN b"])
    database.migrate(path, ["unused", "unused"])
    database.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT a, b FROM one").fetchall() == [(1, None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1001,)
    connection.close()


def test_a_step_of_the_schema_that_fails_half_way_leaves_the_one_before_it(path: Path) -> None:
    database = Database(path, create=True)
    steps = ["CREATE TABLE one (a)", "CREATE TABLE two (a); CREATE TABLE one (a)"]
    with pytest.raises(apsw.SQLError):
        database.migrate(path, steps)
    database.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("one",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1000,)
    connection.close()

    database = Database(path)
    database.migrate(path, [steps[0], "CREATE TABLE two (a)"])
    database.close()


async def test_recovery_that_is_itself_interrupted_is_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit log was flushed, and the crash came before it was trimmed."""
    with child(path) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
    with monkeypatch.context() as patch:
        patch.setattr(Database, "trim_log", crash)
        with pytest.raises(OSError, match="crash"):
            writer.recover(path, None, create=False)
    once = writer.recover(path, None, create=False)
    accounts = once.accounts("", 1000).accounts
    once.close()
    store = await SqliteStore.open(path)
    assert await all_accounts(store) == accounts
    for account in accounts:
        assert len(await whole_history(store, account.user_id)) == account.transaction_count
    await store.close()
