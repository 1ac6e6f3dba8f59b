"""How groups are decided, and which histories can be taken in."""

from typing import Any

import msgspec
import pytest

from entitlements_server.ledger.commands import Command, Consume, Refund, TopUp
from entitlements_server.ledger.outcomes import Recorded, Rejected, Replayed
from entitlements_server.ledger.state import ReadSet, State, append_all, decide_group
from entitlements_server.ledger.values import Account, Kind, Status, Transaction
from support.ledger import Ledger, rule_at


def test_each_command_of_a_group_is_decided_on_the_result_of_those_before_it() -> None:
    charge = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
    outcomes, entries = decide_group(
        State(),
        [charge, TopUp(user_id="ada", amount=3), charge, charge, TopUp(user_id="bob", amount=1)],
        rule_at(),
    )
    denied, top_up, first, again, other = outcomes
    assert isinstance(denied, Recorded)
    assert denied.transaction.status is Status.DENIED
    assert isinstance(first, Recorded)
    assert again == Replayed(first.transaction)
    assert [entry.transaction for entry in entries] == [
        outcome.transaction
        for outcome in (denied, top_up, first, other)
        if isinstance(outcome, Recorded)
    ]


def test_a_refund_finds_a_charge_of_its_own_group() -> None:
    ledger = Ledger()
    ledger.record(TopUp(user_id="ada", amount=3))
    charge = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    refund = Refund(user_id="ada", transaction_id=charge.transaction_id)

    state = State()
    commands: list[Command] = [
        TopUp(user_id="ada", amount=3),
        Consume(user_id="ada", feature="full_distribution"),
        refund,
    ]
    assert isinstance(decide_group(state, commands, rule_at()).outcomes[-1], Recorded)
    assert state.account("ada").balance == 3


def test_a_rejected_command_changes_nothing_and_those_after_it_go_on() -> None:
    state = State()
    outcomes, _ = decide_group(
        state,
        [Consume(user_id="ada", feature="crystal_ball"), TopUp(user_id="ada", amount=1)],
        rule_at(),
    )
    assert isinstance(outcomes[0], Rejected)
    assert state.account("ada").transaction_count == 1


def test_an_account_nobody_wrote_to_is_empty() -> None:
    assert State().account("ada") == Account("ada", 0, 0, 0, 0)


def test_a_read_set_names_the_users_keys_and_charges_of_commands() -> None:
    read_set = ReadSet.of(
        [
            TopUp(user_id="ada", amount=1, idempotency_key="k-1"),
            Refund(user_id="bob", transaction_id="7-abc"),
            Refund(user_id="eve", transaction_id="nonsense", idempotency_key="k-1"),
        ]
    )
    assert read_set.users == {"ada", "bob", "eve"}
    assert read_set.keys == {("ada", "k-1"), ("eve", "k-1")}
    assert read_set.charges == {("bob", 7)}


@pytest.fixture
def history() -> list[Transaction]:
    """Top up 10, charge 5, refund 2 of it, top up 1: all of one user."""
    ledger = Ledger()
    ledger.record(TopUp(user_id="ada", amount=10, idempotency_key="k-1"))
    charge = ledger.record(Consume(user_id="ada", feature="deep_dive_educational"))
    ledger.record(Refund(user_id="ada", transaction_id=charge.transaction_id, amount=2))
    ledger.record(TopUp(user_id="ada", amount=1, idempotency_key="k-2"))
    return ledger.history


def state_after(transactions: list[Transaction]) -> State:
    state = State()
    for transaction in transactions:
        state.apply(transaction)
    return state


@pytest.mark.parametrize("known", range(5))
def test_a_history_follows_from_any_part_of_it(history: list[Transaction], known: int) -> None:
    state = state_after(history[:known])
    append_all(state, history[known:])
    assert state == state_after(history)


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (0, {"sequence": 2}, "its sequence should be 1"),
        (3, {"sequence": 5}, "its sequence should be 4"),
        (3, {"sequence": 3}, "its sequence should be 4"),
        (3, {"balance_after": 9}, "the balance before it is 7, not 8"),
        (3, {"create_time_us": 1}, "older than the one before it"),
        (3, {"salt": "x"}, "only the first transaction may have one"),
        (3, {"idempotency_key": "k-1"}, "its key 'k-1' is already bound"),
        (
            3,
            {"refunded_transaction_id": "2-abc"},
            "a refund must name a charge, and nothing else may",
        ),
        (2, {"refunded_transaction_id": ""}, "a refund must name a charge, and nothing else may"),
        (2, {"refunded_transaction_id": "2-abc"}, "is not a charge of that user"),
        (2, {"refunded_transaction_id": "3-abc"}, "is not a charge of that user"),
        (2, {"amount": 6, "balance_after": 11}, "5 tokens remain of the charge"),
        (2, {"amount": 0, "balance_after": 5}, "cannot change the balance by 0"),
    ],
)
@pytest.mark.parametrize("known", [0, 2])
def test_what_contradicts_the_history_before_it_is_rejected_saying_how(
    history: list[Transaction], place: int, change: dict[str, Any], words: str, known: int
) -> None:
    known = min(known, place)
    state = state_after(history[:known])
    history[place] = msgspec.structs.replace(history[place], **change)
    with pytest.raises(ValueError, match=words):
        append_all(state, history[known : place + 1])
    assert state.account("ada").transaction_count == known


def test_a_refund_of_anything_but_a_charge_is_no_history(history: list[Transaction]) -> None:
    wrong = msgspec.structs.replace(history[2], refunded_transaction_id=history[0].transaction_id)
    with pytest.raises(ValueError, match="is not a charge of that user"):
        append_all(State(), [*history[:2], wrong])


def test_two_users_may_be_mixed(history: list[Transaction]) -> None:
    theirs = Ledger()
    theirs.record(TopUp(user_id="bob", amount=10, idempotency_key="k-1"))
    append_all(State(), [history[0], theirs.history[0], *history[1:]])


def test_a_denied_transaction_may_repeat_a_bound_key(history: list[Transaction]) -> None:
    denied = msgspec.structs.replace(
        history[3],
        kind=Kind.CONSUME,
        status=Status.DENIED,
        cost=8,
        amount=0,
        balance_after=7,
        idempotency_key="k-1",
    )
    append_all(state_after(history[:3]), [denied])
