import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.ledger.values import Transaction
from entitlements_server.maintenance.copy import Copied, CopyError, copy
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import Store, StoreUnavailableError
from entitlements_server.stores.memory import MemoryStore
from support.ledger import commit, consume, recorded, rule_at, top_up, whole_history
from support.programs import command
from support.redis import RedisServer

USERS = [f"user-{number}" for number in range(150)]


async def fill(store: Store) -> None:
    """A ledger with a long history, many short ones, refunds and denials."""
    await commit(store, *(top_up(user, 5, "first") for user in USERS), consume("poor"))
    charges = [recorded(one) for one in await commit(store, *(consume(one, "k") for one in USERS))]
    await commit(
        store,
        *(
            Refund(user_id=one.user_id, transaction_id=one.transaction_id, amount=1)
            for one in charges
        ),
    )
    many: list[Command] = [top_up("ada", 1)] * 1000
    for _ in range(3):
        await store.commit(many, rule_at())


async def contents(store: Store) -> dict[str, list[Transaction]]:
    found: dict[str, list[Transaction]] = {}
    cursor = ""
    while True:
        page = await store.accounts(cursor, 1000)
        for account in page.accounts:
            found[account.user_id] = await whole_history(store, account.user_id)
        cursor = page.next_cursor
        if not cursor:
            return found


class FillingUp(MemoryStore):
    """Takes three batches and then is gone."""

    left = 3

    async def append(self, transactions: Sequence[Transaction]) -> None:
        if not self.left:
            raise StoreUnavailableError
        self.left -= 1
        await super().append(transactions)


@pytest.fixture
async def source() -> MemoryStore:
    store = MemoryStore()
    await fill(store)
    return store


async def test_a_copy_is_the_same_ledger_transaction_for_transaction(source: MemoryStore) -> None:
    """Every account, every history and what a key or a refund refers to arrives."""
    target = MemoryStore()
    copying: list[tuple[int, int]] = []
    verifying: list[tuple[int, int]] = []
    copied = await copy(
        source,
        target,
        resume=False,
        copying=lambda *far: copying.append(far),
        verifying=lambda *far: verifying.append(far),
    )
    assert copied == Copied(accounts=152, transactions=3451, appended=3451, balance=150 * 4 + 3000)
    assert await contents(target) == await contents(source)
    assert (copying[0], copying[-1]) == ((0, 3451), (3451, 3451))
    assert (verifying[0], verifying[-1]) == ((0, 3451), (3451, 3451))
    # The charge of the key is known there, too, with what was given back of it.
    again = await commit(target, consume("user-1", "k"))
    assert again == await commit(source, consume("user-1", "k"))


async def test_an_empty_ledger_is_copied_to_an_empty_one() -> None:
    """There is nothing to complain about."""
    copied = await copy(MemoryStore(), MemoryStore(), resume=False)
    assert copied == Copied(0, 0, 0, 0)


async def test_a_target_that_is_not_empty_is_refused_and_left_alone(source: MemoryStore) -> None:
    """Two ledgers are never mixed."""
    target = MemoryStore()
    await commit(target, top_up("somebody", 1))
    with pytest.raises(CopyError, match="not empty"):
        await copy(source, target, resume=False)
    assert list(await contents(target)) == ["somebody"]


async def test_an_interrupted_copy_goes_on_where_it_stopped(source: MemoryStore) -> None:
    """What has arrived is not written again, in the middle of a history either."""
    target = FillingUp()
    with pytest.raises(StoreUnavailableError):
        await copy(source, target, resume=False)
    arrived = sum(map(len, (await contents(target)).values()))
    assert 0 < arrived < 3451
    target.left = 100
    copied = await copy(source, target, resume=True)
    assert copied.appended == 3451 - arrived
    assert await contents(target) == await contents(source)


@pytest.mark.parametrize("others", ["ada", "somebody"])
async def test_a_copy_never_goes_on_with_another_ledger(source: MemoryStore, others: str) -> None:
    """Resuming on a target that holds something else is found out, wherever it differs."""
    target = MemoryStore()
    await commit(target, top_up(others, 1, "other"))
    with pytest.raises(CopyError):
        await copy(source, target, resume=True)


class WrittenTo(MemoryStore):
    """Somebody goes on charging while it is read."""

    reads = 0

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        self.reads += 1
        if self.reads == 100:
            await commit(self, top_up("user-3", 1))
        return await super().history_after(user_id, after, limit)


async def test_a_source_that_is_written_to_is_found_out() -> None:
    """A copy that misses what came in meanwhile is not called complete."""
    source = WrittenTo()
    await fill(source)
    with pytest.raises(CopyError, match="Stop all writers"):
        await copy(source, MemoryStore(), resume=False)


class Forgetful(MemoryStore):
    """Loses one reason on the way."""

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        found = await super().history_after(user_id, after, limit)
        return [
            msgspec.structs.replace(one, reason="x") if one.user_id == "user-9" else one
            for one in found
        ]


async def test_the_comparison_sees_a_single_changed_field(source: MemoryStore) -> None:
    """Counts and balances that agree are not enough."""
    with pytest.raises(CopyError, match="user-9"):
        await copy(source, Forgetful(), resume=False)


@pytest.mark.slow
async def test_the_command_copies_to_redis_and_back(tmp_path: Path) -> None:
    """`entitlements-server copy` moves a ledger between engines and says what it proved."""
    first, last = f"sqlite://{tmp_path}/first.sqlite", f"sqlite://{tmp_path}/last.sqlite"
    store = await open_store(first)
    await fill(store)
    before = await contents(store)
    await store.close()
    with RedisServer() as server:
        there = await run("--from", first, "--to", server.url)
        assert there.returncode == 0, there.stderr
        assert "152 accounts, 3,451 transactions, 3,600 tokens" in there.stdout
        again = await run("--from", first, "--to", server.url)
        assert again.returncode == 1
        assert "not empty" in again.stderr
        back = await run("--from", server.url, "--to", last)
        assert back.returncode == 0, back.stderr
    store = await open_store(last)
    assert await contents(store) == before
    await store.close()


@pytest.mark.slow
async def test_the_command_says_what_is_wrong_with_a_url(tmp_path: Path) -> None:
    """A store that cannot be opened ends it with status 1, and without its password."""
    failed = await run("--from", f"sqlite://{tmp_path}/l.sqlite", "--to", "redis://:secret@")
    assert failed.returncode == 1
    assert "has no host" in failed.stderr
    assert "secret" not in failed.stderr


async def run(*options: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [command("entitlements-server"), "copy", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
