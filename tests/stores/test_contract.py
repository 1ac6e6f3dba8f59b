"""What `stores/port.py` promises, for every store."""

import asyncio
import dataclasses
from itertools import pairwise

import pytest

from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import Outcome, Recorded, Refused, Replayed
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.ledger.values import Account, Facts, Status, Transaction
from entitlements_server.stores.port import AccountPage, Store
from support.histories import (
    NOW_US,
    Ledger,
    all_accounts,
    commit,
    record,
    recorded,
    replayed,
    rule_at,
    whole_history,
)
from support.kinds import Kind

CHARGE = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")

UNUSUAL_IDS = [
    *("123", "0123", "-1", "1e5", "0x10", "null", "true", "NaN", "''", '"', "\\", "\\u0041"),
    *("{ada}", "{}", "[1]", '{"a":1}', "a:b", "a|b", "*", "%", "_", "?", "$1", "--", ";"),
    *("é", "e\u0301", "語", "🦉", "A", "a", "x" * 128, "語" * 42, "🦉" * 32),
]


def top_ups(count: int, user_id: str = "ada") -> list[Command]:
    return [TopUp(user_id=user_id, amount=1, reason=f"number {n}") for n in range(1, count + 1)]


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
    assert isinstance(unknown, Refused)
    assert recorded(other).user_id == "bob"


async def test_a_commit_of_nothing_does_nothing(store: Store) -> None:
    assert await commit(store) == []
    assert await all_accounts(store) == []


async def test_every_read_sees_what_a_commit_that_returned_has_recorded(store: Store) -> None:
    for sequence in range(1, 20):
        [made] = await record(store, TopUp(user_id="ada", amount=2), now_us=NOW_US + sequence)
        assert await store.account("ada") == Account(
            "ada", 2 * sequence, sequence, NOW_US + 1, NOW_US + sequence
        )
        assert await store.transaction("ada", sequence) == made
        assert list(await store.history("ada", 2**53, 1)) == [made]
        assert await store.accounts("", 10) == AccountPage([await store.account("ada")], "")


async def test_every_commit_is_decided_on_what_all_earlier_ones_left_behind(store: Store) -> None:
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
        assert isinstance((await commit(store, part))[0], Refused)
        await record(store, dataclasses.replace(part, amount=1))
        await all_accounts(store)  # a scan brings tables up to date where there are any
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert (rest.amount, rest.balance_after) == (2, 10)


async def test_a_denied_attempt_is_kept_and_binds_no_key(store: Store) -> None:
    [denied] = await record(store, CHARGE)
    assert await store.transaction("ada", 1) == denied
    await record(store, TopUp(user_id="ada", amount=2))
    [charge] = await record(store, CHARGE)
    assert (denied.status, charge.status) == (Status.DENIED, Status.SUCCESS)


async def test_what_a_rule_raises_passes_through_and_leaves_nothing(store: Store) -> None:
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
    with pytest.raises(KeyError, match="a fault in the rules"):
        await store.commit(group, failing)
    assert (await store.account("ada")).balance == 1
    assert len(await whole_history(store, "ada")) == 1
    [made] = await record(store, group[0])
    assert made.sequence == 2


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
    assert await store.account("ada") == Account("ada", 8, 2, NOW_US, NOW_US)
    assert (await record(store, TopUp(user_id="ada", amount=1)))[0].balance_before == 8


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


async def copied(store: Store) -> list[Transaction]:
    """A history of two users, appended to `store`."""
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=10))
    charge = ledger.record(CHARGE)
    ledger.record(TopUp(user_id="bob", amount=7, idempotency_key="k-1"))
    ledger.record(Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    await store.append(ledger.history)
    return ledger.history


async def test_append_stores_transactions_as_they_are(store: Store) -> None:
    transactions = await copied(store)
    for one in transactions:
        assert await store.transaction(one.user_id, one.sequence) == one
    assert (await store.account("ada")).balance == 9
    assert await store.account("bob") == Account("bob", 7, 1, NOW_US, NOW_US)


async def test_commits_go_on_where_an_appended_history_ends(store: Store) -> None:
    """Keys are bound and refunds are known as if the rules had decided them here."""
    charge = (await copied(store))[1]
    assert [replayed(one) for one in await commit(store, CHARGE)] == [charge]
    [rest] = await record(store, Refund(user_id="ada", transaction_id=charge.transaction_id))
    assert (rest.amount, rest.sequence, rest.balance_after) == (1, 4, 10)


async def test_append_goes_on_where_commits_end(store: Store) -> None:
    await store.account("bob")
    made = await record(store, *top_ups(3), *top_ups(3, "bob"))
    next_one = dataclasses.replace(made[2], sequence=4, balance_after=4)
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
async def test_append_of_what_is_not_next_is_refused_and_stores_nothing(
    store: Store, change: dict[str, int]
) -> None:
    [*_, third] = await record(
        store, *top_ups(2), TopUp(user_id="ada", amount=1, idempotency_key="bound")
    )
    fourth = dataclasses.replace(third, sequence=4, balance_after=4, idempotency_key="")
    fifth = dataclasses.replace(fourth, sequence=5, balance_after=5)
    first_of_bob = dataclasses.replace(third, user_id="bob", sequence=1, balance_after=1)
    wrong = dataclasses.replace(fourth, **change)
    with pytest.raises(ValueError, match="is not the next one of user 'ada'"):
        await store.append([first_of_bob, wrong, fifth])
    assert await store.account("bob") == Account("bob")
    assert len(await whole_history(store, "ada")) == 3
    await store.append([first_of_bob, fourth, fifth])
    assert (await store.account("ada")).balance == 5


async def test_an_appended_history_binds_each_key_once(store: Store) -> None:
    ledger = Ledger()
    one = ledger.record(TopUp(user_id="ada", amount=1, idempotency_key="k-1"))
    two = dataclasses.replace(one, sequence=2, balance_after=2)
    with pytest.raises(ValueError, match="bound already"):
        await store.append([one, two])
    assert await store.account("ada") == Account("ada")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
async def test_a_cancelled_append_happens_whole_or_not_at_all(store: Store, steps: int) -> None:
    made = await record(store, *top_ups(7))
    more = [
        dataclasses.replace(made[-1], sequence=sequence, balance_after=sequence)
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


async def test_ids_are_kept_apart_and_as_they_are_whatever_they_look_like(store: Store) -> None:
    for number, unusual in enumerate(UNUSUAL_IDS, start=1):
        await record(
            store,
            TopUp(user_id=unusual, amount=number, idempotency_key=unusual, caller=unusual),
            Consume(
                user_id=unusual, feature="headline_pick", event_id=unusual, idempotency_key="k"
            ),
        )
    accounts = {account.user_id: account for account in await all_accounts(store, 5)}
    assert sorted(accounts) == sorted(UNUSUAL_IDS)
    for number, unusual in enumerate(UNUSUAL_IDS, start=1):
        assert accounts[unusual].balance == number
        assert await store.account(unusual) == accounts[unusual]
        first = await store.transaction(unusual, 1)
        second = await store.transaction(unusual, 2)
        assert first is not None
        assert second is not None
        assert (first.user_id, first.idempotency_key, first.caller) == (unusual,) * 3
        assert second.event_id == unusual
        command = TopUp(user_id=unusual, amount=number, idempotency_key=unusual)
        assert [replayed(one) for one in await commit(store, command)] == [first]


@pytest.mark.parametrize(
    "reason", ['{"a": [1, "b"]}', "it's", '"', "\\", "\\n", "null", "12", "1.50", "語🦉" * 71, " "]
)
async def test_a_reason_is_kept_to_the_letter(store: Store, reason: str) -> None:
    command = TopUp(user_id="ada", amount=1, reason=reason, idempotency_key="k-1")
    made = (await record(store, command, *top_ups(12, "bob")))[0]
    assert made.reason == reason
    assert await store.transaction("ada", 1) == made
    assert [replayed(one) for one in await commit(store, command)] == [made]


async def test_the_largest_values_are_exact(store: Store) -> None:
    latest = 253_402_300_799_999_999  # the last microsecond of the year 9999
    made = await record(
        store,
        SetBalance(user_id="ada", balance=MAX_BALANCE),
        SetBalance(user_id="ada", balance=0, idempotency_key="k" * 255),
        SetBalance(user_id="ada", balance=MAX_BALANCE - MAX_AMOUNT),
        TopUp(user_id="ada", amount=MAX_AMOUNT, reason="é" * 250),
        now_us=latest,
    )
    await record(store, *top_ups(12, "bob"))
    assert [one.amount for one in made] == [
        2**53 - 1,
        -(2**53 - 1),
        2**53 - 1 - 10**12,
        10**12,
    ]
    assert await whole_history(store, "ada") == made
    assert await store.account("ada") == Account("ada", 2**53 - 1, 4, latest, latest)


async def test_a_group_of_a_thousand_commands_takes_effect(store: Store) -> None:
    users = [f"user-{number}" for number in range(100)]
    await record(store, *(TopUp(user_id=user, amount=1) for user in users for _ in range(10)))
    assert {account.balance for account in await all_accounts(store)} == {10}


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
    transactions = await copied(store)
    await durable_kind.abandon(store)
    store = await durable_kind.open()
    assert await whole_history(store, "bob") == [
        one for one in transactions if one.user_id == "bob"
    ]
    assert [replayed(one) for one in await commit(store, CHARGE)] == [transactions[1]]
    await store.close()
