"""What TopUp and SetBalance decide."""

import pytest

from entitlements_server.ledger.commands import Command, SetBalance, TopUp
from entitlements_server.ledger.errors import BalanceLimitExceededError, IdempotencyKeyReusedError
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.ledger.values import Kind, Status
from support.ledger import NOW_US, Ledger, figures, rejected, replayed


def test_a_top_up_adds_to_an_account_that_need_not_exist() -> None:
    ledger = Ledger()
    top_up = ledger.record(TopUp(user_id="ada", amount=5, reason="welcome"))
    assert (top_up.kind, top_up.status) == (Kind.TOP_UP, Status.SUCCESS)
    assert (top_up.balance_before, top_up.amount, top_up.balance_after) == (0, 5, 5)
    assert (top_up.reason, top_up.feature, top_up.cost, top_up.event_id) == ("welcome", "", 0, "")
    ledger.record(TopUp(user_id="ada", amount=MAX_AMOUNT))
    assert ledger.balance() == MAX_AMOUNT + 5


@pytest.mark.parametrize(("before", "after"), [(0, 7), (9, 7), (7, 7), (7, 0), (0, MAX_BALANCE)])
def test_set_balance_records_the_difference_as_an_adjustment(before: int, after: int) -> None:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=before))
    adjustment = ledger.record(SetBalance(user_id="ada", balance=after))
    assert (adjustment.kind, adjustment.status) == (Kind.ADJUSTMENT, Status.SUCCESS)
    assert adjustment.amount == after - before
    assert ledger.balance() == after


def test_a_top_up_that_would_pass_the_limit_is_rejected_and_records_nothing() -> None:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE - 1))
    error = rejected(ledger.do(TopUp(user_id="ada", amount=2, idempotency_key="k-1")))
    assert isinstance(error, BalanceLimitExceededError)
    assert error.metadata == {
        "balance": str(MAX_BALANCE - 1),
        "amount": "2",
        "limit": "9007199254740991",
    }
    assert "at most 1" in error.message
    assert ledger.account().transaction_count == 1


def test_a_rejected_top_up_binds_no_key() -> None:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE))
    command = TopUp(user_id="ada", amount=1, idempotency_key="k-1")
    rejected(ledger.do(command))
    ledger.record(SetBalance(user_id="ada", balance=0))
    assert ledger.record(command).balance_after == 1


def test_a_balance_may_reach_its_limit_exactly() -> None:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE - 1))
    assert ledger.record(TopUp(user_id="ada", amount=1)).balance_after == 2**53 - 1


@pytest.mark.parametrize(
    "command",
    [
        TopUp(user_id="ada", amount=5, reason="r", idempotency_key="k-1"),
        SetBalance(user_id="ada", balance=5, reason="r", idempotency_key="k-1"),
    ],
)
def test_a_retry_returns_the_first_transaction_whatever_happened_since(command: Command) -> None:
    ledger = Ledger()
    first = ledger.record(command)
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE))
    assert replayed(ledger.do(command)) == first
    assert ledger.balance() == MAX_BALANCE


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (
            TopUp(user_id="ada", amount=5, idempotency_key="k"),
            TopUp(user_id="ada", amount=6, idempotency_key="k"),
            "amount",
        ),
        (
            TopUp(user_id="ada", amount=5, idempotency_key="k"),
            TopUp(user_id="ada", amount=5, reason="r", idempotency_key="k"),
            "reason",
        ),
        (
            TopUp(user_id="ada", amount=5, idempotency_key="k"),
            SetBalance(user_id="ada", balance=5, idempotency_key="k"),
            "kind",
        ),
        (
            SetBalance(user_id="ada", balance=5, idempotency_key="k"),
            SetBalance(user_id="ada", balance=6, idempotency_key="k"),
            "balance",
        ),
        (
            SetBalance(user_id="ada", balance=5, idempotency_key="k"),
            SetBalance(user_id="ada", balance=5, reason="r", idempotency_key="k"),
            "reason",
        ),
        (
            SetBalance(user_id="ada", balance=5, idempotency_key="k"),
            TopUp(user_id="ada", amount=5, idempotency_key="k"),
            "kind",
        ),
    ],
)
def test_a_key_used_with_another_request_is_rejected_naming_the_field(
    first: Command, second: Command, field: str
) -> None:
    ledger = Ledger()
    bound = ledger.record(first)
    error = rejected(ledger.do(second))
    assert isinstance(error, IdempotencyKeyReusedError)
    assert (error.metadata["field"], error.metadata["transaction_id"]) == (
        field,
        bound.transaction_id,
    )
    assert ledger.account().transaction_count == 1


def test_a_clock_that_was_set_back_does_not_make_history_run_backwards() -> None:
    ledger = Ledger()
    ledger.record(TopUp(user_id="ada", amount=1), now_us=NOW_US)
    second = ledger.record(TopUp(user_id="ada", amount=1), now_us=NOW_US - 1_000_000)
    assert second.create_time_us == NOW_US
    third = ledger.record(TopUp(user_id="ada", amount=1), now_us=NOW_US + 1)
    assert third.create_time_us == NOW_US + 1


def test_the_clock_of_one_user_does_not_hold_back_another() -> None:
    ledger = Ledger()
    ledger.record(TopUp(user_id="ada", amount=1), now_us=NOW_US)
    assert ledger.record(TopUp(user_id="bob", amount=1), now_us=5).create_time_us == 5


def test_an_account_has_its_first_and_newest_time_and_its_count() -> None:
    ledger = Ledger()
    for step in range(3):
        ledger.record(TopUp(user_id="ada", amount=2), now_us=NOW_US + step)
    assert figures(ledger.account()) == ("ada", 6, 3, NOW_US, NOW_US + 2)
