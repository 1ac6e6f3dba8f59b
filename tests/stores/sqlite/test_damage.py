"""Damaged rows and the life of a file: start, flush and crash."""

from contextlib import closing
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from entitlements_server.ledger.commands import Consume, Refund
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import DamagedRecordError, Finding
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite import store as sqlite_store
from entitlements_server.stores.sqlite.database import Database
from support.kinds import SqliteKind
from support.ledger import commit, commit_one, record, recorded, top_up


async def findings_of(store: SqliteStore) -> list[str]:
    return [str(finding) async for finding in verify(store)]


async def test_a_start_flushes_what_others_have_logged_beside_a_damaged_account(
    tmp_path: Path,
) -> None:
    """Nothing of its own history is lost either."""
    kind = SqliteKind(tmp_path / "ledger.sqlite")
    store = await kind.open()
    await record(store, top_up("ada", 1), top_up("bob", 1))
    await store.close()
    store = await kind.open()
    await record(store, top_up("ada", 1), top_up("bob", 1, "k-1"))
    await kind.abandon(store)
    connection = apsw.Connection(str(kind.path))
    connection.execute("UPDATE accounts SET stored = 'x' WHERE user_id = 'bob'")
    connection.close()
    with capture_logs() as lines:
        store = await kind.open()
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert (line["user_id"], line["record"]) == ("bob", "the row in the table accounts")
    assert (await store.account("ada")).balance == 2
    await record(store, top_up("ada", 1))
    with pytest.raises(DamagedRecordError):
        await commit(store, top_up("bob", 1))
    assert any("user 'bob'" in one for one in await findings_of(store))
    history = await store.history_after("bob", 0, 10)
    assert [one.sequence for one in history] == [1, 2]
    await store.close()


async def test_every_row_that_cannot_be_decoded_is_a_finding_and_the_rest_is_checked(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    store = await SqliteStore.open(path)
    for _ in range(6):
        await record(store, top_up("ada", 1), top_up("bob", 1), top_up("cyd", 1))
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("""
        UPDATE accounts SET stored = 'x' WHERE user_id = 'bob';
        UPDATE transactions SET stored = '{' WHERE sequence = 2 AND account = 1;
        UPDATE transactions SET stored = json_set(stored, '$."5"', 7000000000)
            WHERE sequence = 4 AND account = 1;
        UPDATE transactions SET stored = json_set(stored, '$."3"', 1)
            WHERE sequence = 6 AND account = 3;
    """)
    connection.close()
    store = await SqliteStore.open(path)
    findings = await findings_of(store)
    for user, words in (
        ("ada", "transaction 2: row 2 of the table transactions cannot be used"),
        ("ada", "transaction 4: row 4 of the table transactions cannot be used"),
        ("bob", "the row in the table accounts cannot be used"),
        ("cyd", "its sequence should be 6"),
    ):
        assert any(f"user '{user}'" in one and words in one for one in findings), findings
    await store.close()


@pytest.mark.parametrize("taken", range(1, 16))
async def test_a_crash_between_two_flushes_of_a_user_with_refunds_counts_each_refund_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """The tables then have some of the refunds, and their total is as of the last of these."""
    monkeypatch.setattr(sqlite_store, "SEGMENT_SIZE", 12)
    monkeypatch.setattr(sqlite_store, "MIN_FLUSH_SIZE", 1)
    kind = SqliteKind(tmp_path / "ledger.sqlite")
    store = await kind.open()
    await record(store, top_up("ada", 100))
    charge = recorded(
        await commit_one(store, Consume(user_id="ada", feature="deep_dive_educational"))
    )
    for number in range(9 + taken):
        if number in (1, 4, 7, 9):
            back = Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1)
            await record(store, back)
        else:
            await record(store, top_up("ada", 1))
    refunded = sum(number in (1, 4, 7, 9) for number in range(9 + taken))
    await kind.abandon(store)
    store = await kind.open()
    assert await findings_of(store) == []
    rest = recorded(
        await commit_one(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    )
    assert rest.amount == 5 - refunded
    assert await findings_of(store) == []
    await store.close()


async def test_a_flush_is_bounded_for_a_hot_user_with_a_refund(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "SEGMENT_SIZE", 500)
    sizes: list[int] = []
    store = await SqliteStore.open(tmp_path / "ledger.sqlite")
    flush = Database.flush_unsynced

    def counting(self: Database, changes: list[object], *rest: object) -> None:
        sizes.append(len(changes))
        flush(self, changes, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "flush_unsynced", counting)
    await record(store, top_up("ada", 100))
    charge = recorded(await commit_one(store, Consume(user_id="ada", feature="full_distribution")))
    await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    for _ in range(60):
        await record(store, *(top_up("ada", 1) for _ in range(20)))
    assert sizes
    assert max(sizes) <= 2 * 20
    await store.close()


async def test_a_trigger_changes_nothing_and_is_a_finding(tmp_path: Path) -> None:
    """One that somebody made in a SQLite shell, for instance."""
    path = tmp_path / "ledger.sqlite"
    store = await SqliteStore.open(path)
    await record(store, top_up("ada", 1))
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("""
        CREATE TRIGGER gift AFTER INSERT ON commit_log BEGIN
            UPDATE commit_log SET transactions = replace(transactions, 'ada', 'bob');
        END;
        CREATE VIEW rich AS SELECT * FROM accounts;
        DROP INDEX due_times_in_order;
    """)
    connection.close()
    store = await SqliteStore.open(path)
    await record(store, top_up("ada", 1))
    found = await findings_of(store)
    await store.close()
    assert [one.partition(": ")[2] for one in found] == [
        "its index 'due_times_in_order' is missing",
        "it has a trigger 'gift', which no version makes",
        "it has a view 'rich', which no version makes",
    ]


def test_a_finding_cannot_move_the_cursor_of_a_terminal() -> None:
    """A forged record may have any name."""
    finding = Finding("ada\r\x1b[2KAll of it holds", "", "its balance is wrong\u202e")
    assert str(finding) == ("user 'ada\\r\\x1b[2KAll of it holds': its balance is wrong\\u202e")


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM changes WHERE sequence = 2",
        "DELETE FROM changes WHERE sequence = 3",
        "INSERT INTO changes SELECT position + 1, account, sequence FROM changes WHERE sequence = 3",
        "UPDATE changes SET sequence = 5 - sequence WHERE sequence > 1",
    ],
)
async def test_a_change_feed_with_gaps_copies_or_another_order_is_a_finding(
    tmp_path: Path, edit: str
) -> None:
    """Whoever follows the ledger would miss a transaction, or see it before the one before."""
    path = tmp_path / "ledger.sqlite"
    store = await SqliteStore.open(path)
    for _ in range(3):
        await record(store, top_up("ada", 1))
    await record(store, top_up("bob", 1))
    assert await findings_of(store) == []
    await store.close()
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(edit)
    store = await SqliteStore.open(path)
    found = await findings_of(store)
    await store.close()
    assert found == [
        "user 'ada': the change feed lacks transactions of it, or has them out of order"
    ]
