"""What Refund decides."""

import pytest

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.errors import (
    BalanceLimitExceededError,
    IdempotencyKeyReusedError,
    NotRefundableError,
    RefundExceedsChargeError,
    TransactionNotFoundError,
)
from entitlements_server.ledger.limits import MAX_BALANCE
from entitlements_server.ledger.values import Kind, Status, Transaction
from support.ledger import Ledger, rejected, replayed


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=10))
    return ledger


@pytest.fixture
def charge(ledger: Ledger) -> Transaction:
    """5 of 10 tokens were charged."""
    return ledger.record(Consume(user_id="ada", feature="deep_dive_educational"))


def refund_of(charge: Transaction, amount: int = 0, key: str = "", reason: str = "") -> Refund:
    return Refund(
        user_id="ada",
        transaction_id=charge.transaction_id,
        amount=amount,
        idempotency_key=key,
        reason=reason,
    )


def test_a_refund_restores_the_tokens_of_its_charge(ledger: Ledger, charge: Transaction) -> None:
    refund = ledger.record(refund_of(charge, reason="late data"))
    assert (refund.kind, refund.status) == (Kind.REFUND, Status.SUCCESS)
    assert (refund.amount, refund.balance_after) == (5, 10)
    assert refund.refunded_transaction_id == charge.transaction_id
    assert (refund.reason, refund.feature, refund.cost) == ("late data", "", 0)
    assert ledger.balance() == 10


@pytest.mark.parametrize("amount", [0, 5])
@pytest.mark.parametrize("key", ["", "k-1", "k-2"])
def test_a_second_full_refund_changes_nothing_and_returns_the_first(
    ledger: Ledger, charge: Transaction, amount: int, key: str
) -> None:
    first = ledger.record(refund_of(charge, key="k-1"))
    assert replayed(ledger.do(refund_of(charge, amount, key))) == first
    assert ledger.balance() == 10
    assert ledger.account().transaction_count == 3


def test_a_replayed_refund_binds_no_key(ledger: Ledger, charge: Transaction) -> None:
    ledger.record(refund_of(charge, key="k-1"))
    replayed(ledger.do(refund_of(charge, key="k-2")))
    ledger.record(TopUp(user_id="ada", amount=1, idempotency_key="k-2"))


def test_partial_refunds_add_up_to_the_charge_and_not_beyond(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(refund_of(charge, 2))
    ledger.record(refund_of(charge, 2))
    error = rejected(ledger.do(refund_of(charge, 2)))
    assert isinstance(error, RefundExceedsChargeError)
    assert error.metadata == {
        "transaction_id": charge.transaction_id,
        "amount": "2",
        "remaining": "1",
    }
    assert ledger.balance() == 9


def test_amount_0_gives_back_all_that_remains(ledger: Ledger, charge: Transaction) -> None:
    ledger.record(refund_of(charge, 2))
    assert ledger.record(refund_of(charge)).amount == 3
    assert ledger.balance() == 10


def test_the_full_refund_of_a_charge_refunded_in_parts_returns_the_last_part(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(refund_of(charge, 2))
    last = ledger.record(refund_of(charge, 3))
    assert replayed(ledger.do(refund_of(charge))) == last
    assert replayed(ledger.do(refund_of(charge, 5))) == last


def test_a_partial_refund_of_a_fully_refunded_charge_exceeds_it(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(refund_of(charge))
    error = rejected(ledger.do(refund_of(charge, 2)))
    assert isinstance(error, RefundExceedsChargeError)
    assert error.metadata["remaining"] == "0"


@pytest.mark.parametrize("amount", [6, 10**12])
def test_a_refund_larger_than_the_charge_is_rejected(
    ledger: Ledger, charge: Transaction, amount: int
) -> None:
    assert isinstance(rejected(ledger.do(refund_of(charge, amount))), RefundExceedsChargeError)
    ledger.record(refund_of(charge))
    assert isinstance(rejected(ledger.do(refund_of(charge, amount))), RefundExceedsChargeError)
    assert ledger.balance() == 10


def test_without_a_key_equal_partial_refunds_are_two(ledger: Ledger, charge: Transaction) -> None:
    ledger.record(refund_of(charge, 2))
    ledger.record(refund_of(charge, 2))
    assert ledger.balance() == 9


def test_a_partial_refund_under_one_key_is_made_once(ledger: Ledger, charge: Transaction) -> None:
    first = ledger.record(refund_of(charge, 2, "k-1"))
    assert replayed(ledger.do(refund_of(charge, 2, "k-1"))) == first
    assert ledger.balance() == 7


def test_a_retry_of_all_that_remains_finds_its_refund_though_nothing_remains_now(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(refund_of(charge, 2, "k-1"))
    rest = ledger.record(refund_of(charge, 0, "k-2"))
    assert replayed(ledger.do(refund_of(charge, 0, "k-2"))) == rest
    assert replayed(ledger.do(refund_of(charge, 3, "k-2"))) == rest


@pytest.mark.parametrize("complete", [False, True])
def test_all_that_remains_is_another_request_than_the_part_its_key_is_bound_to(
    ledger: Ledger, charge: Transaction, complete: bool
) -> None:
    part = ledger.record(refund_of(charge, 2, "k-1"))
    if complete:
        ledger.record(refund_of(charge, 3, "k-2"))
    error = rejected(ledger.do(refund_of(charge, 0, "k-1")))
    assert isinstance(error, IdempotencyKeyReusedError)
    assert error.metadata["field"] == "amount"
    assert error.metadata["transaction_id"] == part.transaction_id


@pytest.mark.parametrize("field", ["transaction_id", "amount", "reason", "kind"])
def test_a_refund_under_the_key_of_another_request_names_the_field_that_differs(
    ledger: Ledger, charge: Transaction, field: str
) -> None:
    other = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    if field == "kind":
        ledger.record(TopUp(user_id="ada", amount=2, idempotency_key="k-1"))
    else:
        ledger.record(refund_of(charge, 2, "k-1", "late data"))
    command = {
        "transaction_id": refund_of(other, 2, "k-1", "late data"),
        "amount": refund_of(charge, 1, "k-1", "late data"),
        "reason": refund_of(charge, 2, "k-1", "other"),
        "kind": refund_of(charge, 2, "k-1"),
    }[field]
    error = rejected(ledger.do(command))
    assert isinstance(error, IdempotencyKeyReusedError)
    assert error.metadata["field"] == field


def test_the_key_is_looked_at_before_the_charge(ledger: Ledger, charge: Transaction) -> None:
    ledger.record(refund_of(charge, 2, "k-1"))
    unknown = Refund(user_id="ada", transaction_id="9-x", amount=2, idempotency_key="k-1")
    assert isinstance(rejected(ledger.do(unknown)), IdempotencyKeyReusedError)


def test_a_refund_of_a_denied_attempt_is_rejected(ledger: Ledger) -> None:
    ledger.record(SetBalance(user_id="ada", balance=0))
    denied = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    error = rejected(ledger.do(refund_of(denied)))
    assert isinstance(error, NotRefundableError)
    assert error.metadata == {"transaction_id": denied.transaction_id}


def test_a_refund_of_a_free_use_is_rejected(ledger: Ledger) -> None:
    free = ledger.record(Consume(user_id="ada", feature="headline_pick"))
    assert isinstance(rejected(ledger.do(refund_of(free))), NotRefundableError)


def test_only_charges_can_be_refunded(ledger: Ledger, charge: Transaction) -> None:
    others = [
        ledger.record(TopUp(user_id="ada", amount=1)),
        ledger.record(SetBalance(user_id="ada", balance=3)),
        ledger.record(refund_of(charge, 1)),
    ]
    for other in others:
        assert isinstance(rejected(ledger.do(refund_of(other))), NotRefundableError)


def test_not_refundable_is_said_before_the_amount_is_looked_at(ledger: Ledger) -> None:
    free = ledger.record(Consume(user_id="ada", feature="headline_pick"))
    assert isinstance(rejected(ledger.do(refund_of(free, 7))), NotRefundableError)


def test_a_transaction_of_another_user_is_not_found(ledger: Ledger, charge: Transaction) -> None:
    ledger.record(TopUp(user_id="bob", amount=10))
    ledger.record(Consume(user_id="bob", feature="deep_dive_educational"))
    stolen = Refund(user_id="bob", transaction_id=charge.transaction_id)
    error = rejected(ledger.do(stolen))
    assert isinstance(error, TransactionNotFoundError)
    assert error.metadata == {"user_id": "bob", "transaction_id": charge.transaction_id}
    assert ledger.balance("bob") == 5


def test_an_id_must_match_to_the_last_letter(ledger: Ledger, charge: Transaction) -> None:
    exact = charge.transaction_id
    wrong = [exact[:-1], exact + "a", exact.upper(), f"0{exact}", "2-x", "2", "x", "-", "2-"]
    for transaction_id in wrong:
        error = rejected(ledger.do(Refund(user_id="ada", transaction_id=transaction_id)))
        assert isinstance(error, TransactionNotFoundError), transaction_id


def test_a_refund_that_would_pass_the_limit_of_the_balance_is_rejected(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE - 3))
    error = rejected(ledger.do(refund_of(charge)))
    assert isinstance(error, BalanceLimitExceededError)
    assert ledger.record(refund_of(charge, 3)).balance_after == MAX_BALANCE


def test_too_large_a_refund_is_said_before_the_limit_of_the_balance(
    ledger: Ledger, charge: Transaction
) -> None:
    ledger.record(SetBalance(user_id="ada", balance=MAX_BALANCE))
    assert isinstance(rejected(ledger.do(refund_of(charge, 6))), RefundExceedsChargeError)


def test_a_charge_that_was_refunded_can_not_be_replayed_into_a_second_charge(
    ledger: Ledger,
) -> None:
    """The key stays bound: a late retry of the charge answers with it and takes nothing."""
    command = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
    charge = ledger.record(command)
    ledger.record(refund_of(charge))
    assert replayed(ledger.do(command)) == charge
    assert ledger.balance() == 10


def test_refunds_of_one_charge_leave_another_as_it_is(ledger: Ledger, charge: Transaction) -> None:
    other = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    ledger.record(refund_of(charge))
    assert ledger.record(refund_of(other)).amount == 2
