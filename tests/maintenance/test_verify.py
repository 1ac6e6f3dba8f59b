"""Verification: a sound ledger passes, and whatever is wrong with one is found and named."""

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import Recorded
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import Finding, Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite.check import check_file
from support.histories import rule_at


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


SPOILT: dict[str, tuple[str, str]] = {
    "a balance": ("UPDATE accounts SET balance = balance + 1", "balance"),
    "a count": ("UPDATE accounts SET transaction_count = transaction_count + 1", "sequence"),
    "an update time": ("UPDATE accounts SET update_time_us = update_time_us + 1", "another time"),
    "a creation time": ("UPDATE accounts SET create_time_us = 5", "created at another time"),
    "a gap": ("DELETE FROM transactions WHERE sequence = 3", "sequence should be 3"),
    "a lost beginning": ("DELETE FROM transactions WHERE sequence < 3", "1 to 2 are missing"),
    "an amount": (
        "UPDATE transactions SET amount = -1 WHERE sequence = 2",
        "cannot change the balance by -1",
    ),
    "a chain": (
        "UPDATE transactions SET balance_after = balance_after + 1 WHERE sequence = 2",
        "the next begins with",
    ),
    "a time": (
        "UPDATE transactions SET create_time_us = create_time_us + 1000 WHERE sequence = 8",
        "later than the one that follows",
    ),
    "a key bound twice": (
        "UPDATE transactions SET idempotency_key = 'k-1' WHERE sequence = 5",
        "bound to transaction",
    ),
    "a refund of too much": (
        "UPDATE transactions SET cost = 1, amount = -1 WHERE sequence = 2",
        "and 2 were given back",
    ),
    "a refund of nothing": (
        "UPDATE transactions SET refunded_transaction_id = '99-aaaa' WHERE sequence = 7",
        "refunds name transaction 99",
    ),
    "a refund of another": (
        "UPDATE transactions SET refunded_transaction_id = '2-aaaa' WHERE sequence = 7",
        "names it as 2-aaaa",
    ),
    "a refund of a denial": (
        "UPDATE transactions SET status = 2, amount = 0 WHERE sequence = 2",
        "no successful charge",
    ),
    "a denied top-up": ("UPDATE transactions SET status = 2 WHERE sequence = 1", "TOP_UP"),
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
    "a lost key": ("DELETE FROM idempotency_keys WHERE idempotency_key = 'k-1'", "not lead to it"),
    "a key astray": (
        "UPDATE idempotency_keys SET sequence = 12 WHERE idempotency_key = 'k-1'",
        "leads to it that it does not bind",
    ),
    "a denial's key": ("INSERT INTO idempotency_keys SELECT number, 'k-9', 11 FROM accounts", "k"),
    "a lost refund": ("DELETE FROM refunds WHERE charge_sequence = 2", "amount to 2 and 0"),
    "a wrong refund": ("UPDATE refunds SET refunded = 1", "and 1 is noted"),
    "a refund too many": ("INSERT INTO refunds SELECT number, 3, 1, 7 FROM accounts", "to 0 and 1"),
    "another newest refund": ("UPDATE refunds SET last_sequence = 1", "its refunds amount to"),
    "an orphan": ("UPDATE transactions SET account = account + 50", "belongs to no account"),
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
    assert any("SQLite cannot read it" in str(finding) for finding in check_file(file))


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
