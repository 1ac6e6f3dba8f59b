"""What `stores/interface.py` promises of commits, for every store."""

import asyncio
from itertools import pairwise

import msgspec
import pytest

from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.outcomes import Outcome, Recorded, Rejected, Replayed
from entitlements_server.ledger.values import Account, Facts, Status
from entitlements_server.stores.interface import Failed, Store
from support.ledger import (
    CHARGE,
    NOW_US,
    all_accounts,
    commit,
    decided,
    figures,
    record,
    recorded,
    replayed,
    rule_at,
    whole_history,
)


async def test_a_commit_answers_each_command_in_order(store: Store) -> None:
    outcomes = await commit(
        store,
        CHARGE,
        TopUp(user_id="ada", amount=2),
        CHARGE,
        CHARGE,
        Consume(user_id="ada", feature="crystal_ball"),
        TopUp(user_id="bob", amount=1),
    )
    denied, _, charge, again, unknown, other = outcomes
    assert recorded(denied).status is Status.DENIED
    assert replayed(again) == recorded(charge)
    assert isinstance(unknown, Rejected)
    assert recorded(other).user_id == "bob"


async def test_a_commit_of_nothing_does_nothing(store: Store) -> None:
    assert await commit(store) == []
    assert await all_accounts(store) == []


async def test_every_commit_is_decided_on_the_result_of_all_earlier_ones(store: Store) -> None:
    await record(store, SetBalance(user_id="ada", balance=5))
    [charge] = await record(store, CHARGE)
    assert charge.balance_before == 5
    [refund] = await record(
        store, Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1)
    )
    assert refund.balance_after == 4
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert rest.amount == 1
    for _ in range(15):
        await record(store, TopUp(user_id="ada", amount=1), TopUp(user_id="bob", amount=1))
    again = await commit(store, CHARGE, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert [replayed(outcome) for outcome in again] == [charge, rest]


async def test_partial_refunds_add_up_however_far_apart_they_are(store: Store) -> None:
    await record(store, SetBalance(user_id="ada", balance=10))
    [charge] = await record(store, Consume(user_id="ada", feature="deep_dive_educational"))
    for remaining in (5, 4, 3):
        part = Refund(user_id="ada", transaction_id=charge.transaction_id, amount=remaining + 1)
        assert isinstance((await commit(store, part))[0], Rejected)
        await record(store, msgspec.structs.replace(part, amount=1))
        await all_accounts(store)  # a scan brings tables up to date where there are any
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert (rest.amount, rest.balance_after) == (2, 10)


async def test_a_denied_attempt_is_kept_and_binds_no_key(store: Store) -> None:
    [denied] = await record(store, CHARGE)
    assert await store.transaction("ada", 1) == denied
    await record(store, TopUp(user_id="ada", amount=2))
    [charge] = await record(store, CHARGE)
    assert (denied.status, charge.status) == (Status.DENIED, Status.SUCCESS)


async def test_what_a_rule_raises_fails_its_own_user_or_the_group_and_leaves_nothing_of_them(
    store: Store,
) -> None:
    await record(store, TopUp(user_id="ada", amount=1))
    rule = rule_at()

    def failing(account: Account, facts: Facts, command: Command) -> Outcome:
        if command.user_id == "eve":
            raise KeyError("a fault in the rules")
        return rule(account, facts, command)

    group = [
        TopUp(user_id="ada", amount=1, idempotency_key="k-1"),
        TopUp(user_id="eve", amount=1),
    ]
    stored = 0
    try:
        ada, eve = await store.commit(group, failing)
    except KeyError:
        pass
    else:
        stored = recorded(ada).amount
        assert isinstance(eve, Failed)
        assert isinstance(eve.error, KeyError)
    assert (await store.account("eve")).transaction_count == 0
    assert (await store.account("ada")).balance == 1 + stored
    assert len(await whole_history(store, "ada")) == 1 + stored
    made = decided(await store.commit([group[0]], rule))[0]
    assert isinstance(made, Replayed if stored else Recorded)


async def test_concurrent_commits_under_one_key_make_one_charge_and_all_get_it(
    store: Store,
) -> None:
    await record(store, SetBalance(user_id="ada", balance=10))
    groups = await asyncio.gather(*(commit(store, CHARGE) for _ in range(20)))
    [made] = [group[0].transaction for group in groups if isinstance(group[0], Recorded)]
    assert sum(group == [Replayed(made)] for group in groups) == 19
    assert (await store.account("ada")).balance == 8


async def test_concurrent_commits_never_spend_a_token_twice(store: Store) -> None:
    await record(store, SetBalance(user_id="ada", balance=10))
    groups = await asyncio.gather(
        *(commit(store, Consume(user_id="ada", feature="full_distribution")) for _ in range(12))
    )
    statuses = [recorded(group[0]).status for group in groups]
    assert statuses.count(Status.SUCCESS) == 5
    history = await whole_history(store, "ada")
    assert [one.sequence for one in history] == list(range(1, 14))
    assert all(one.balance_after == two.balance_before for one, two in pairwise(history))


async def test_concurrent_commits_for_many_users_all_take_effect(store: Store) -> None:
    users = [f"user-{number}" for number in range(10)]
    await asyncio.gather(
        *(commit(store, TopUp(user_id=user, amount=1)) for _ in range(5) for user in users)
    )
    assert [account.balance for account in await all_accounts(store)] == [5] * 10


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_a_cancelled_commit_happens_once_or_not_at_all(store: Store, steps: int) -> None:
    """Its caller may be gone: a retry under the same key settles what came of it."""
    await record(store, SetBalance(user_id="ada", balance=10))
    task = asyncio.create_task(commit(store, CHARGE))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [outcome] = await commit(store, CHARGE)
    assert isinstance(outcome, Recorded | Replayed)
    assert outcome.transaction.sequence == 2
    assert figures(await store.account("ada")) == ("ada", 8, 2, NOW_US, NOW_US)
    assert (await record(store, TopUp(user_id="ada", amount=1)))[0].balance_before == 8


async def test_a_group_of_a_thousand_commands_takes_effect(store: Store) -> None:
    users = [f"user-{number}" for number in range(100)]
    await record(store, *(TopUp(user_id=user, amount=1) for user in users for _ in range(10)))
    assert {account.balance for account in await all_accounts(store)} == {10}


@pytest.mark.parametrize("key", ["refund-key", ""])
async def test_a_whole_refund_is_replayed_after_its_charge_was(store: Store, key: str) -> None:
    """What the replay of a charge has read of it must not hide the refund."""
    [_, charge] = await record(store, TopUp(user_id="ada", amount=9), CHARGE)
    whole = Refund(user_id="ada", transaction_id=charge.transaction_id, idempotency_key=key)
    [refund] = await record(store, whole)
    await all_accounts(store)  # A store may keep in memory what is new, but not from here on.
    [again, _] = await commit(store, CHARGE, TopUp(user_id="ada", amount=1))
    assert replayed(again) == charge
    [outcome] = await commit(store, whole)
    assert replayed(outcome) == refund
