"""What `stores/interface.py` promises, for tokens that expire and for access windows: under races, too."""

import asyncio
from collections.abc import Sequence
from typing import Any

from entitlements_server.ledger.catalogue import Catalogue, Feature
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, Settle, TopUp
from entitlements_server.ledger.outcomes import Outcome, Recorded, Rejected, Replayed, Unchanged
from entitlements_server.ledger.settlement import DELAY_US, settled
from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.stores.interface import Store
from support.kinds import Kind as StoreKind
from support.ledger import NOW_US, decided, record, recorded, rule_at, whole_history

HOUR_US = 3_600_000_000
CATALOGUE = Catalogue(
    (
        Feature(feature_id="report", cost=3, title="Report", access_us=48 * HOUR_US),
        Feature(feature_id="chart", cost=2, title="Chart"),
    )
)
VIEW = Consume(user_id="ada", feature="report", event_id="e-1")
WINDOW = "report e-1"


async def do(store: Store, *commands: Command, now_us: int = NOW_US) -> list[Outcome]:
    return decided(await store.commit(commands, rule_at(now_us, CATALOGUE)))


async def do_one(store: Store, command: Command, *, now_us: int = NOW_US) -> Outcome:
    [outcome] = await do(store, command, now_us=now_us)
    return outcome


async def at_once(
    stores: Sequence[Store], commands: Sequence[Command], *, now_us: int = NOW_US
) -> list[Outcome]:
    """Commit each command in a group of its own, all at the same time, on the stores in turns."""
    results = await asyncio.gather(
        *(
            do_one(stores[index % len(stores)], command, now_us=now_us)
            for index, command in enumerate(commands)
        )
    )
    return list(results)


def expiring(amount: int, in_us: int, **fields: Any) -> TopUp:
    return TopUp(user_id="ada", amount=amount, expire_time_us=NOW_US + in_us, **fields)


async def test_a_second_view_in_the_window_is_covered_and_a_view_after_it_is_charged(
    store: Store,
) -> None:
    await do(store, SetBalance(user_id="ada", balance=10))
    first = recorded(await do_one(store, VIEW))
    assert first.access_until_us == NOW_US + 48 * HOUR_US
    last_moment = first.access_until_us - 1
    again = await do_one(store, VIEW, now_us=last_moment)
    assert again == Replayed(first, covered=True)
    after = recorded(await do_one(store, VIEW, now_us=first.access_until_us))
    assert after.amount == -3
    bound = await store.bound("ada", [WINDOW, "report e-2"])
    assert {name: one.transaction for name, one in bound.items()} == {WINDOW: after}


async def test_a_window_that_a_refund_ended_is_opened_again_by_the_next_charge(
    store: Store,
) -> None:
    await do(store, SetBalance(user_id="ada", balance=10))
    first = recorded(await do_one(store, VIEW))
    part = Refund(user_id="ada", transaction_id=first.transaction_id, amount=1)
    await do(store, part)
    assert await do_one(store, VIEW) == Replayed(first, 1, covered=True)
    await do(store, Refund(user_id="ada", transaction_id=first.transaction_id))
    second = recorded(await do_one(store, VIEW))
    assert await do_one(store, VIEW) == Replayed(second, covered=True)
    bound = await store.bound("ada", [WINDOW])
    assert bound[WINDOW].transaction == second


async def test_a_window_survives_that_its_store_is_opened_again(durable_kind: StoreKind) -> None:
    store = await durable_kind.open()
    await do(store, SetBalance(user_id="ada", balance=10))
    first = recorded(await do_one(store, VIEW))
    await do(store, Refund(user_id="ada", transaction_id=first.transaction_id, amount=1))
    await store.close()
    store = await durable_kind.open()
    assert await do_one(store, VIEW) == Replayed(first, 1, covered=True)
    await store.close()


async def test_of_many_first_views_at_once_one_is_charged_and_the_others_are_covered(
    store: Store,
) -> None:
    await do(store, SetBalance(user_id="ada", balance=100))
    outcomes = await at_once([store], [VIEW] * 50)
    charges = [one for one in outcomes if isinstance(one, Recorded)]
    covered = [one for one in outcomes if isinstance(one, Replayed) and one.covered]
    assert (len(charges), len(covered)) == (1, 49)
    assert (await store.account("ada")).balance == 97


async def test_a_window_of_one_group_covers_the_rest_of_it(store: Store) -> None:
    await do(store, SetBalance(user_id="ada", balance=10))
    first, second, other = await do(store, VIEW, VIEW, Consume(user_id="ada", feature="chart"))
    assert second == Replayed(recorded(first), covered=True)
    assert recorded(other).amount == -2


async def test_a_thousand_retries_of_each_new_call_have_one_effect(store: Store) -> None:
    top_up = expiring(20, HOUR_US, idempotency_key="k-1")
    charge = Consume(user_id="ada", feature="chart", quantity=3, max_cost=6, idempotency_key="k-2")
    retries: list[Command] = [top_up, charge] * 50
    await do(store, top_up, charge)
    for _ in range(10):
        outcomes = await do(store, *retries)
        assert all(isinstance(one, Replayed) for one in outcomes)
    await at_once([store], [charge] * 50)
    account = await store.account("ada")
    assert (account.balance, account.transaction_count) == (14, 2)


async def test_racers_for_a_grant_spend_each_of_its_tokens_once(store: Store) -> None:
    await do(store, expiring(10, HOUR_US), TopUp(user_id="ada", amount=4))
    race = [Consume(user_id="ada", feature="chart") for _ in range(40)]
    outcomes = await at_once([store], race)
    charged = [recorded(one) for one in outcomes if is_charge(one)]
    assert len(charged) == 7
    assert sum(draw.amount for one in charged for draw in one.draws) == 10
    account = await store.account("ada")
    assert (account.balance, account.grants, account.due_us) == (0, (), 0)


async def test_a_grant_that_lapses_amid_its_racers_is_spent_by_none_that_come_after(
    store: Store,
) -> None:
    """200 racers in groups, as an engine would send them: the first 20 before it lapses."""
    await do(store, expiring(100, 1000), TopUp(user_id="ada", amount=10))
    racers = [Consume(user_id="ada", feature="chart")] * 20
    early, *late = await asyncio.gather(
        do(store, *racers),
        *(do(store, *racers, now_us=NOW_US + 1000) for _ in range(9)),
    )
    assert all(is_charge(one) for one in early)
    charged = [recorded(one) for group in late for one in group if is_charge(one)]
    assert len(charged) == 5
    assert all(one.draws == () for one in charged)
    account = await store.account("ada")
    assert settled(account, NOW_US + 1000).balance == 0
    assert account.balance == 60


async def test_what_has_lapsed_is_due_and_settled_once(store: Store) -> None:
    await do(store, expiring(5, HOUR_US), TopUp(user_id="bob", amount=1, lifetime_us=HOUR_US // 2))
    await record(store, TopUp(user_id="cid", amount=1))
    assert list(await store.due(NOW_US + HOUR_US // 2 - 1, 10)) == []
    assert list(await store.due(NOW_US + HOUR_US, 10)) == ["bob", "ada"]
    assert list(await store.due(NOW_US + HOUR_US, 1)) == ["bob"]
    later = NOW_US + HOUR_US + DELAY_US
    outcomes = await at_once([store], [Settle(user_id="ada")] * 10, now_us=later)
    [expiry] = [one.transaction for one in outcomes if isinstance(one, Recorded)]
    assert sum(isinstance(one, Unchanged) for one in outcomes) == 9
    assert (expiry.kind, expiry.amount, expiry.balance_after) == (Kind.EXPIRE, -5, 0)
    assert list(await store.due(later, 10)) == ["bob"]


async def test_an_expiry_is_recorded_in_front_of_what_comes_next(store: Store) -> None:
    await do(store, expiring(5, HOUR_US), TopUp(user_id="ada", amount=4))
    soon = NOW_US + HOUR_US + DELAY_US - 1
    outcome = await do_one(store, Consume(user_id="ada", feature="chart"), now_us=soon)
    assert [one.kind for one in outcome.transactions] == [Kind.CONSUME]
    late = await do_one(store, Consume(user_id="ada", feature="chart"), now_us=soon + 1)
    assert [one.kind for one in late.transactions] == [Kind.EXPIRE, Kind.CONSUME]
    history = await whole_history(store, "ada")
    assert [one.sequence for one in history] == [1, 2, 3, 4, 5]
    assert history[-1].balance_after == 0


async def test_tokens_come_back_to_the_grant_that_they_were_taken_from(store: Store) -> None:
    await do(store, expiring(2, HOUR_US), TopUp(user_id="ada", amount=4))
    opened = (await whole_history(store, "ada"))[0]
    charge = recorded(await do_one(store, Consume(user_id="ada", feature="chart", quantity=2)))
    assert [(one.grant, one.amount) for one in charge.draws] == [
        (opened.transaction_id, 2),
        ("", 2),
    ]
    back = Refund(user_id="ada", transaction_id=charge.transaction_id, amount=3)
    refund = recorded(await do_one(store, back))
    assert sorted((one.grant, one.amount) for one in refund.draws) == [
        ("", 2),
        (opened.transaction_id, 1),
    ]
    account = await store.account("ada")
    assert [(one.grant, one.amount) for one in account.grants] == [(opened.transaction_id, 1)]
    assert account.due_us == NOW_US + HOUR_US


async def test_a_history_with_grants_and_windows_is_appended_as_it_is(
    store: Store, kind: StoreKind
) -> None:
    await do(store, expiring(9, HOUR_US), TopUp(user_id="ada", amount=4, labels=(("a", "b"),)))
    view = recorded(await do_one(store, VIEW))
    await do(store, Refund(user_id="ada", transaction_id=view.transaction_id), VIEW)
    await do_one(store, VIEW, now_us=NOW_US + 50 * HOUR_US)
    history = await whole_history(store, "ada")
    account = await store.account("ada")
    await store.close()
    other = await kind.fresh().open()
    await other.append(history)
    assert await whole_history(other, "ada") == history
    assert await other.account("ada") == account
    assert (await other.bound("ada", [WINDOW]))[WINDOW].transaction == history[-1]
    await other.close()


def is_charge(outcome: Outcome) -> bool:
    """Whether something was charged. Only so many denials are recorded."""
    if isinstance(outcome, Rejected):
        assert outcome.error.reason == "INSUFFICIENT_TOKENS"
        return False
    assert isinstance(outcome, Recorded)
    made: Transaction = outcome.transaction
    return made.status is Status.SUCCESS
