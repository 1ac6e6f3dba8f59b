"""What `stores/interface.py` promises of reads, for every store."""

import asyncio

import pytest

from entitlements_server.ledger.commands import Refund, TopUp
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.interface import AccountPage, Store
from support.ledger import (
    CHARGE,
    NOW_US,
    all_accounts,
    figures,
    record,
    top_ups,
    whole_history,
)


async def test_every_read_sees_what_a_commit_that_returned_has_recorded(store: Store) -> None:
    for sequence in range(1, 20):
        [made] = await record(store, TopUp(user_id="ada", amount=2), now_us=NOW_US + sequence)
        assert figures(await store.account("ada")) == (
            "ada",
            2 * sequence,
            sequence,
            NOW_US + 1,
            NOW_US + sequence,
        )
        assert await store.transaction("ada", sequence) == made
        assert list(await store.history("ada", 2**53, 1)) == [made]
        assert await store.accounts("", 10) == AccountPage([await store.account("ada")], "")


async def test_reads_during_commits_see_whole_transactions_in_order(store: Store) -> None:
    """Whatever is read is a gapless history that agrees with itself."""
    done = asyncio.Event()

    async def read() -> int:
        reads = 0
        while not done.is_set():
            account = await store.account("ada")
            history = await whole_history(store, "ada", page=7)
            assert [one.sequence for one in history] == list(range(1, len(history) + 1))
            assert len(history) >= account.transaction_count
            assert sum(one.amount for one in history[: account.transaction_count]) == (
                account.balance
            )
            reads += 1
            await asyncio.sleep(0)
        return reads

    reading = asyncio.create_task(read())
    for _ in range(15):
        await record(store, *top_ups(3))
        await asyncio.sleep(0)  # the memory store never waits
    done.set()
    assert await reading >= 1


async def test_cancelled_reads_do_no_harm(store: Store) -> None:
    await record(store, *top_ups(12))
    for steps in range(4):
        tasks = [
            asyncio.ensure_future(read)
            for read in (
                store.account("ada"),
                store.account(f"nobody-{steps}"),
                store.transaction("ada", 1),
                store.history("ada", 2**53, 100),
                store.accounts("", 10),
                store.ping(),
            )
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await whole_history(store, "ada")) == 12
    assert [account.balance for account in await all_accounts(store)] == [12]
    assert (await record(store, TopUp(user_id="ada", amount=1)))[0].sequence == 13


async def test_an_account_nobody_wrote_to_is_empty(store: Store) -> None:
    assert await store.account("nobody") == Account("nobody")
    assert await store.transaction("nobody", 1) is None
    assert list(await store.history("nobody", 2**53, 10)) == []


async def test_reading_an_empty_account_does_not_hide_what_is_written_to_it_then(
    store: Store,
) -> None:
    await store.account("ada")
    await record(store, TopUp(user_id="ada", amount=1))
    assert (await store.account("ada")).balance == 1


@pytest.mark.parametrize("sequence", [-1, 0, 4, 10**15 - 1])
async def test_there_is_no_transaction_outside_of_a_history(store: Store, sequence: int) -> None:
    await record(store, *top_ups(3))
    assert await store.transaction("ada", sequence) is None


@pytest.mark.parametrize("count", [1, 4, 5, 6, 11, 23])
async def test_history_is_any_slice_newest_first(store: Store, count: int) -> None:
    made: list[Transaction] = []
    for command in top_ups(count):
        made += await record(store, command, TopUp(user_id="bob", amount=1))
    newest_first = [one for one in reversed(made) if one.user_id == "ada"]
    for before in range(1, count + 3):
        for limit in (1, 2, 3, 7, 1000):
            wanted = [one for one in newest_first if one.sequence < before][:limit]
            assert list(await store.history("ada", before, limit)) == wanted
    assert list(await store.history("ada", 2**53, 1000)) == newest_first


async def test_history_is_whole_across_a_refund_of_an_old_charge(store: Store) -> None:
    """A refund brings its charge back to mind, far below the newest transactions."""
    await record(store, TopUp(user_id="ada", amount=10))
    [charge] = await record(store, CHARGE)
    await record(store, *top_ups(20))
    await record(store, *top_ups(20, "bob"))
    await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    for limit in (1, 2, 5, 30):
        history = await store.history("ada", 2**53, limit)
        assert [one.sequence for one in history] == list(range(23, max(23 - limit, 0), -1))
        history = await store.history("ada", 4, limit)
        assert [one.sequence for one in history] == list(range(3, max(3 - limit, 0), -1))


@pytest.mark.parametrize("page", [1, 2, 7, 30, 31, 1000])
async def test_accounts_are_each_read_once(store: Store, page: int) -> None:
    users = [f"user-{number:02}" for number in range(30)]
    await record(store, *(TopUp(user_id=user, amount=3) for user in users))
    accounts = await all_accounts(store, page)
    assert sorted(account.user_id for account in accounts) == users
    assert {account.balance for account in accounts} == {3}


async def test_accounts_that_exist_throughout_are_read_once_while_others_come(
    store: Store,
) -> None:
    old = {f"m-{number}" for number in range(12)}
    await record(store, *(TopUp(user_id=user, amount=1) for user in old))
    found: list[Account] = []
    cursor = ""
    for step in range(100):
        page = await store.accounts(cursor, 2)
        found += page.accounts
        cursor = page.next_cursor
        if not cursor:
            break
        await record(
            store,
            TopUp(user_id=f"a-{step}", amount=1),
            TopUp(user_id=f"z-{step % 5}", amount=1),
            *(TopUp(user_id=user, amount=1) for user in old),
        )
    ids = [account.user_id for account in found]
    assert len(set(ids)) == len(ids)
    assert old <= set(ids)
    balances = {account.user_id: account.balance for account in found}
    assert len({balances[user] for user in old}) > 1  # each as of the call that read it
