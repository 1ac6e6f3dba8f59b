"""What `stores/interface.py` promises of closing and of opening again, for every store."""

import asyncio

import pytest

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from entitlements_server.stores.interface import Store
from support.kinds import Kind
from support.ledger import (
    CHARGE,
    all_accounts,
    append_two_histories,
    commit,
    record,
    replayed,
    top_ups,
    whole_history,
)


async def test_ping_returns_when_the_store_can_be_reached(store: Store) -> None:
    await store.ping()


async def test_closing_again_does_nothing(store: Store) -> None:
    await store.close()
    await store.close()


async def test_close_finishes_what_is_under_way(durable_kind: Kind) -> None:
    store = await durable_kind.open()
    commits = [
        asyncio.create_task(commit(store, TopUp(user_id="ada", amount=1))) for _ in range(10)
    ]
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*commits, return_exceptions=True)
    acknowledged = sum(not isinstance(result, BaseException) for result in results)
    store = await durable_kind.open()
    assert acknowledged >= 1
    assert (await store.account("ada")).balance == acknowledged
    await store.close()


@pytest.mark.parametrize("crash", [False, True], ids=["closed", "crashed"])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 9, 30])
async def test_everything_is_there_when_the_store_is_opened_again(
    durable_kind: Kind, count: int, crash: bool
) -> None:
    store = await durable_kind.open()
    made = await record(store, SetBalance(user_id="ada", balance=10))
    [charge] = await record(store, CHARGE)
    [denied] = await record(store, Consume(user_id="bob", feature="full_distribution"))
    made.append(charge)
    for command in top_ups(count):
        made += await record(store, command)
    made += await record(
        store, Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1)
    )
    accounts = [await store.account(user) for user in ("ada", "bob")]

    await (durable_kind.abandon(store) if crash else store.close())
    store = await durable_kind.open()

    found = await all_accounts(store)
    assert sorted(found, key=lambda one: one.user_id) == accounts
    assert await whole_history(store, "ada") == made
    assert await whole_history(store, "bob") == [denied]
    assert [replayed(one) for one in await commit(store, CHARGE)] == [charge]
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert rest.amount == 1
    assert rest.sequence == len(made) + 1
    await store.close()


async def test_what_was_appended_is_there_when_the_store_is_opened_again(
    durable_kind: Kind,
) -> None:
    store = await durable_kind.open()
    transactions = await append_two_histories(store)
    await durable_kind.abandon(store)
    store = await durable_kind.open()
    assert await whole_history(store, "bob") == [
        one for one in transactions if one.user_id == "bob"
    ]
    assert [replayed(one) for one in await commit(store, CHARGE)] == [transactions[1]]
    await store.close()
