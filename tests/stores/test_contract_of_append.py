"""What `stores/interface.py` promises of append, for every store."""

import asyncio

import msgspec
import pytest

from entitlements_server.ledger.commands import Refund, TopUp
from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import Store
from support.ledger import (
    CHARGE,
    NOW_US,
    Ledger,
    all_accounts,
    append_two_histories,
    commit,
    figures,
    record,
    replayed,
    top_ups,
    whole_history,
)


async def test_append_stores_transactions_as_they_are(store: Store) -> None:
    transactions = await append_two_histories(store)
    for one in transactions:
        assert await store.transaction(one.user_id, one.sequence) == one
    assert (await store.account("ada")).balance == 9
    assert figures(await store.account("bob")) == ("bob", 7, 1, NOW_US, NOW_US)


async def test_commits_go_on_where_an_appended_history_ends(store: Store) -> None:
    """Keys are bound and refunds are known as if the rules had decided them here."""
    charge = (await append_two_histories(store))[1]
    assert [replayed(one) for one in await commit(store, CHARGE)] == [charge]
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert (rest.amount, rest.sequence, rest.balance_after) == (1, 4, 10)


async def test_append_goes_on_where_commits_end(store: Store) -> None:
    await store.account("bob")
    made = await record(store, *top_ups(3), *top_ups(3, "bob"))
    next_one = msgspec.structs.replace(made[2], sequence=4, balance_after=4)
    await store.append([next_one])
    assert (await store.account("ada")).balance == 4
    assert await whole_history(store, "ada") == [*made[:3], next_one]
    assert (await record(store, TopUp(user_id="ada", amount=1)))[0].sequence == 5


async def test_append_of_nothing_does_nothing(store: Store) -> None:
    await store.append([])
    assert await all_accounts(store) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 3},
        {"sequence": 5},
        {"balance_after": 5},
        {"create_time_us": 1},
        {"idempotency_key": "bound"},
        {"refunded_transaction_id": "1-abc"},
    ],
)
async def test_append_of_what_is_not_next_is_rejected_and_stores_nothing(
    store: Store, change: dict[str, int]
) -> None:
    [*_, third] = await record(
        store, *top_ups(2), TopUp(user_id="ada", amount=1, idempotency_key="bound")
    )
    fourth = msgspec.structs.replace(third, sequence=4, balance_after=4, idempotency_key="")
    fifth = msgspec.structs.replace(fourth, sequence=5, balance_after=5)
    first_of_bob = msgspec.structs.replace(third, user_id="bob", sequence=1, balance_after=1)
    wrong = msgspec.structs.replace(fourth, **change)
    with pytest.raises(ValueError, match="cannot be the next one of user 'ada'"):
        await store.append([first_of_bob, wrong, fifth])
    assert await store.account("bob") == Account("bob")
    assert len(await whole_history(store, "ada")) == 3
    await store.append([first_of_bob, fourth, fifth])
    assert (await store.account("ada")).balance == 5


async def test_an_appended_history_binds_each_key_once(store: Store) -> None:
    ledger = Ledger()
    one = ledger.record(TopUp(user_id="ada", amount=1, idempotency_key="k-1"))
    two = msgspec.structs.replace(one, sequence=2, balance_after=2, salt="")
    with pytest.raises(ValueError, match="already bound"):
        await store.append([one, two])
    assert await store.account("ada") == Account("ada")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_a_cancelled_append_happens_whole_or_not_at_all(store: Store, steps: int) -> None:
    made = await record(store, *top_ups(7))
    more = [
        msgspec.structs.replace(made[-1], sequence=sequence, balance_after=sequence)
        for sequence in (8, 9)
    ]
    task = asyncio.create_task(store.append(more))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [after] = await record(store, TopUp(user_id="ada", amount=1))
    assert after.sequence in (8, 10)
    history = await whole_history(store, "ada")
    assert [one.sequence for one in history] == list(range(1, after.sequence + 1))
    assert (await store.account("ada")).balance == after.sequence
