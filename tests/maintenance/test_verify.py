"""Verification: a sound ledger passes, and whatever is wrong with one is found and named."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import Finding, Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite.check import check_file
from support.ledger import rule_at


async def fill(store: Store) -> None:
    """A history with everything that there is."""
    time_us = 1_000_000

    async def one(command: Command) -> str:
        nonlocal time_us
        time_us += 1
        (outcome,) = await store.commit([command], rule_at(time_us))
        assert isinstance(outcome, Recorded)
        return outcome.transaction.transaction_id

    for user in ("ada", "bob"):
        await one(TopUp(user_id=user, amount=20, idempotency_key="k-0"))
        charges = [
            await one(
                Consume(user_id=user, feature="full_distribution", idempotency_key=f"k-{number}")
            )
            for number in range(1, 6)
        ]
        await one(Refund(user_id=user, transaction_id=charges[0], amount=1))
        await one(Refund(user_id=user, transaction_id=charges[0]))
        await one(Refund(user_id=user, transaction_id=charges[3]))
        await one(SetBalance(user_id=user, balance=1))
        await one(Consume(user_id=user, feature="full_distribution", idempotency_key="k-9"))
        await one(Consume(user_id=user, feature="headline_pick"))


async def findings_of(store: Store, remembered: int = 1000) -> list[Finding]:
    return [finding async for finding in verify(store, remembered=remembered)]


@pytest.mark.parametrize("remembered", [1, 3, 1000])
async def test_a_sound_ledger_passes_however_little_is_remembered_at_once(
    tmp_path: Path, remembered: int
) -> None:
    memory = MemoryStore()
    await fill(memory)
    assert await findings_of(memory, remembered) == []
    file = tmp_path / "ledger.sqlite"
    store = await SqliteStore.open(file)
    await fill(store)
    told: list[tuple[int, int]] = []
    findings = [one async for one in verify(store, lambda *far: told.append(far))]
    assert findings == []
    assert told[0] == (0, 24)
    assert told[-1] == (24, 24)
    await store.close()
    assert list(check_file(file)) == []


def member(name: str, value: str, where: str = "true", table: str = "transactions") -> str:
    """Set one member of what is stored, by its number in the contract."""
    stored = f"json_set(stored, '$.\"{name}\"', {value})"
    return f"UPDATE {table} SET stored = {stored} WHERE {where}"


def of_account(name: str, value: str) -> str:
    return member(name, value, table="accounts")


SWAPPED = """
    UPDATE transactions SET stored = (
        SELECT o.stored FROM transactions AS o
        WHERE o.account = transactions.account AND o.sequence = 9 - transactions.sequence
    ) WHERE sequence IN (4, 5)
"""
COUNT = "UPDATE accounts SET transaction_count = 13"

SPOILT: dict[str, tuple[str, str]] = {
    "a balance": (of_account("2", "stored ->> '2' + 1"), "its balance is 2 but"),
    "a count": (f"{of_account('3', '13')}; {COUNT}", "transactions after 12 are missing"),
    "an update time": (of_account("5", "stored ->> '5' + 1"), "its update_time_us is"),
    "a creation time": (of_account("4", "5"), "its create_time_us is 5"),
    "a head": (of_account("101", f"'{'A' * 43}='"), "its head is not the one"),
    "a salt": (of_account("102", "'other'"), "its salt is 'other'"),
    "a gap": ("DELETE FROM transactions WHERE sequence = 3", "sequence should be 3"),
    "a lost beginning": ("DELETE FROM transactions WHERE sequence < 3", "sequence should be 1"),
    "a lost end": ("DELETE FROM transactions WHERE sequence > 10", "transactions after 10 are"),
    "an amount": (member("8", "-1", "sequence = 2"), "cannot change the balance by -1"),
    "a balance on the way": (
        member("10", "stored ->> '10' + 1", "sequence = 2"),
        "the balance before it is",
    ),
    "a time": (member("11", "stored ->> '11' + 1000", "sequence = 8"), "older than the one before"),
    "a decision time": (
        member("18", "stored ->> '11'", "sequence = 8"),
        "should not be recorded",
    ),
    "a feature": (member("6", "'other'", "sequence = 2"), "its head is not the one"),
    "an event": (member("12", "'other'", "sequence = 12"), "its head is not the one"),
    "a user": (member("2", "'cy'", "sequence = 3"), "it is a transaction of user 'cy'"),
    "a caller": (member("16", "'other'", "sequence = 1"), "its head is not the one"),
    "two rows in each other's place": (
        SWAPPED,
        "sequence should be 4",
    ),
    "a key bound twice": (member("13", "'k-1'", "sequence = 5"), "is already bound"),
    "a refund of too much": (
        f"{member('7', '1', 'sequence = 2')}; {member('8', '-1', 'sequence = 2')}",
        "0 tokens remain of the charge",
    ),
    "a refund of nothing": (member("15", "'99-aaaa'", "sequence = 7"), "'99-aaaa' is not a charge"),
    "a refund of another": (member("15", "'2-aaaa'", "sequence = 7"), "'2-aaaa' is not a charge"),
    "a refund of a denial": (
        f"{member('5', '2', 'sequence = 2')}; {member('8', '0', 'sequence = 2')}",
        "is not a charge of that user",
    ),
    "a denied top-up": (member("5", "2", "sequence = 1"), "TOP_UP"),
}


@pytest.mark.parametrize("what", SPOILT)
async def test_what_is_wrong_with_a_history_is_found(tmp_path: Path, what: str) -> None:
    sql, words = SPOILT[what]
    file = await spoilt(tmp_path, lambda connection: connection.execute(sql))
    store = await SqliteStore.open(file)
    try:
        findings = await findings_of(store, remembered=3)
    finally:
        await store.close()
    assert {finding.user_id for finding in findings} == {"ada", "bob"}
    assert any(words in str(finding) for finding in findings), findings


TABLES: dict[str, tuple[str, str]] = {
    "a lost key": (
        "DELETE FROM idempotency_keys WHERE idempotency_key = 'k-1'",
        "is not bound to it",
    ),
    "a key astray": (
        "UPDATE idempotency_keys SET sequence = 12 WHERE idempotency_key = 'k-1'",
        "is bound to it that it does not bind",
    ),
    "a denial's key": ("INSERT INTO idempotency_keys SELECT number, 'k-9', 11 FROM accounts", "k"),
    "a lost refund": ("DELETE FROM refunds WHERE charge_sequence = 2", "add up to 2 and 0"),
    "a wrong refund": ("UPDATE refunds SET refunded = 1", "and 1 is stored"),
    "a refund too many": ("INSERT INTO refunds SELECT number, 3, 1, 7 FROM accounts", "to 0 and 1"),
    "another newest refund": ("UPDATE refunds SET last_sequence = 1", "its refunds add up to"),
    "an orphan": ("UPDATE transactions SET account = account + 50", "belongs to no account"),
    "an account under another count": (COUNT, "under another user or count"),
    "a row under another sequence": (
        "UPDATE transactions SET sequence = 99 WHERE sequence = 12",
        "under another user or sequence",
    ),
    "a due time": ("INSERT INTO due_times SELECT number, 5 FROM accounts", "due time differs"),
    "a change of nothing": (
        "INSERT INTO changes SELECT number, number, 50 FROM accounts",
        "change feed",
    ),
}


@pytest.mark.parametrize("what", TABLES)
async def test_tables_that_disagree_are_found(tmp_path: Path, what: str) -> None:
    sql, words = TABLES[what]
    file = await spoilt(tmp_path, lambda connection: connection.execute(sql))
    findings = list(check_file(file))
    assert any(words in str(finding) for finding in findings), findings


async def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    def damage(connection: apsw.Connection) -> None:
        connection.pragma("writable_schema", 1)
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'refunds'")

    file = await spoilt(tmp_path, damage)
    assert any("SQLite cannot read it to check" in str(finding) for finding in check_file(file))


async def spoilt(folder: Path, spoil: Callable[[apsw.Connection], object]) -> Path:
    """A ledger file that something has happened to."""
    file = folder / "ledger.sqlite"
    store = await SqliteStore.open(file)
    await fill(store)
    await store.close()
    connection = apsw.Connection(str(file))
    spoil(connection)
    connection.close()
    return file


async def test_a_history_that_is_ahead_of_the_clock_is_a_warning_and_no_fault() -> None:
    """As long as it is so, and also of what was dated by a clock that is right again."""
    store = MemoryStore()
    hour_us = 3_600_000_000
    await store.commit([TopUp(user_id="ada", amount=1)], rule_at(1_000_000 + hour_us))
    await store.commit([TopUp(user_id="bob", amount=1)], rule_at(1_000_000))
    by_then = [one async for one in verify(store, now_us=1_000_000 + hour_us)]
    assert by_then == []
    before_that = [one async for one in verify(store, now_us=1_000_000)]
    assert [(one.user_id, one.is_warning) for one in before_that] == [("ada", True)]
    assert "3600 s ahead of the clock" in before_that[0].what
    await store.commit([TopUp(user_id="ada", amount=1)], rule_at(2_000_000))
    for now_us in (2_000_000, 1_000_000 + 2 * hour_us, None):
        [warning] = [one async for one in verify(store, now_us=now_us)]
        assert (warning.user_id, warning.is_warning) == ("ada", True)
        assert warning.transaction_id.startswith("2-")
