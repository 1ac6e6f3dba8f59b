"""What Consume decides."""

import pytest

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature
from entitlements_server.ledger.commands import Consume, SetBalance, TopUp
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.errors import IdempotencyKeyReusedError, UnknownFeatureError
from entitlements_server.ledger.values import Account, Kind, Status
from support.ledger import NOW_US, Ledger, recorded, rejected, replayed

DEEP = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")


def ledger_with(tokens: int) -> Ledger:
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=tokens))
    return ledger


@pytest.mark.parametrize(
    ("tokens", "feature", "cost"), [(0, "full_distribution", 2), (4, "deep_dive_educational", 5)]
)
def test_a_balance_below_the_cost_is_denied_recorded_and_unchanged(
    tokens: int, feature: str, cost: int
) -> None:
    ledger = ledger_with(tokens)
    denied = ledger.record(Consume(user_id="ada", feature=feature, event_id="e-1"))
    assert (denied.kind, denied.status) == (Kind.CONSUME, Status.DENIED)
    assert (denied.feature, denied.cost, denied.event_id) == (feature, cost, "e-1")
    assert (denied.balance_before, denied.amount, denied.balance_after) == (tokens, 0, tokens)
    assert ledger.balance() == tokens
    assert ledger.account().transaction_count == 2


def test_a_denial_is_an_error_that_names_what_is_required_and_available() -> None:
    denied = ledger_with(1).record(DEEP)
    error = denial(denied)
    assert error is not None
    assert error.metadata == {
        "feature": "full_distribution",
        "required": "2",
        "available": "1",
        "recorded": "true",
        "transaction_id": denied.transaction_id,
        "user_id": "ada",
    }
    assert "Top up 1 or more" in error.message


def test_a_success_is_no_denial() -> None:
    assert denial(ledger_with(2).record(DEEP)) is None


def test_10_tokens_less_a_cost_of_2_are_8() -> None:
    charge = ledger_with(10).record(DEEP)
    assert (charge.kind, charge.status) == (Kind.CONSUME, Status.SUCCESS)
    assert (charge.balance_before, charge.amount, charge.balance_after) == (10, -2, 8)


def test_10_tokens_go_to_8_to_5_to_2_and_then_a_cost_of_3_is_denied() -> None:
    ledger = ledger_with(10)
    features = ("full_distribution", "scenario_extremes", "comparative_analysis")
    charges = [ledger.record(Consume(user_id="ada", feature=feature)) for feature in features]
    assert [charge.balance_after for charge in charges] == [8, 5, 2]
    last = ledger.record(Consume(user_id="ada", feature="scenario_extremes"))
    assert last.status is Status.DENIED
    assert ledger.balance() == 2


def test_a_balance_that_equals_the_cost_is_enough_and_becomes_zero() -> None:
    ledger = ledger_with(2)
    assert ledger.record(DEEP).status is Status.SUCCESS
    assert ledger.balance() == 0


@pytest.mark.parametrize("tokens", [0, 7])
def test_the_free_feature_is_allowed_at_any_balance_and_costs_nothing(tokens: int) -> None:
    ledger = ledger_with(tokens)
    charge = ledger.record(Consume(user_id="ada", feature="headline_pick"))
    assert (charge.status, charge.cost, charge.amount) == (Status.SUCCESS, 0, 0)
    assert ledger.balance() == tokens


def test_the_free_feature_is_allowed_for_a_user_never_seen() -> None:
    ledger = Ledger()
    charge = ledger.record(Consume(user_id="new", feature="headline_pick"))
    assert (charge.status, charge.sequence) == (Status.SUCCESS, 1)


def test_a_charge_records_everything_about_the_attempt() -> None:
    ledger = ledger_with(10)
    charge = ledger.record(
        Consume(
            user_id="ada",
            feature="scenario_extremes",
            event_id="e-7",
            idempotency_key="k-7",
            caller="analysis",
        ),
        now_us=NOW_US + 5,
    )
    assert (charge.user_id, charge.sequence, charge.create_time_us) == ("ada", 2, NOW_US + 5)
    assert (charge.feature, charge.cost, charge.event_id) == ("scenario_extremes", 3, "e-7")
    assert (charge.idempotency_key, charge.caller) == ("k-7", "analysis")
    assert (charge.reason, charge.refunded_transaction_id) == ("", "")
    assert charge.catalogue_version == BUILT_IN.version


def test_the_same_key_gives_the_same_transaction_charged_once_and_one_record() -> None:
    ledger = ledger_with(10)
    first = ledger.record(DEEP)
    assert replayed(ledger.do(DEEP)) == first
    assert ledger.balance() == 8
    assert ledger.account().transaction_count == 2


def test_different_keys_are_two_charges() -> None:
    ledger = ledger_with(10)
    first = ledger.record(DEEP)
    second = ledger.record(
        Consume(user_id="ada", feature="full_distribution", idempotency_key="k-2")
    )
    assert first.transaction_id != second.transaction_id
    assert ledger.balance() == 6


def test_without_a_key_every_request_is_a_charge_of_its_own() -> None:
    ledger = ledger_with(10)
    for _ in range(3):
        ledger.record(Consume(user_id="ada", feature="full_distribution"))
    assert ledger.balance() == 4


def test_the_key_is_looked_at_before_the_balance() -> None:
    """A retry of a charge succeeds even when the balance has dropped to zero since."""
    ledger = ledger_with(2)
    first = ledger.record(DEEP)
    assert ledger.balance() == 0
    assert replayed(ledger.do(DEEP)) == first


def test_the_key_is_looked_at_before_the_feature() -> None:
    """A retry of a charge succeeds even when the catalogue has lost the feature since."""
    ledger = ledger_with(2)
    first = ledger.record(DEEP)
    other = Catalogue((Feature(feature_id="other", cost=1, title=""),))
    assert replayed(ledger.do(DEEP, catalogue=other)) == first


def test_a_known_key_with_another_request_is_objected_to_before_its_unknown_feature() -> None:
    ledger = ledger_with(2)
    ledger.record(DEEP)
    unknown = Consume(user_id="ada", feature="crystal_ball", idempotency_key="k-1")
    assert isinstance(rejected(ledger.do(unknown)), IdempotencyKeyReusedError)


def test_the_feature_is_looked_at_before_the_balance() -> None:
    """At zero tokens an unknown feature is unknown, not denied, and nothing is recorded."""
    ledger = Ledger()
    error = rejected(ledger.do(Consume(user_id="ada", feature="crystal_ball")))
    assert isinstance(error, UnknownFeatureError)
    assert error.metadata == {"feature": "crystal_ball"}
    assert ledger.account() == Account("ada")


def test_a_replay_keeps_the_price_of_then() -> None:
    ledger = ledger_with(10)
    first = ledger.record(DEEP)
    dearer = Catalogue((Feature(feature_id="full_distribution", cost=9, title=""),))
    assert replayed(ledger.do(DEEP, catalogue=dearer)) == first
    again = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-2")
    assert recorded(ledger.do(again, catalogue=dearer)).status is Status.DENIED


def test_a_denial_binds_no_key() -> None:
    """After a top-up the same request under the same key succeeds."""
    ledger = Ledger()
    denied = ledger.record(DEEP)
    assert denied.idempotency_key == "k-1"
    ledger.record(TopUp(user_id="ada", amount=2))
    charge = ledger.record(DEEP)
    assert charge.status is Status.SUCCESS
    assert replayed(ledger.do(DEEP)) == charge


def test_a_denial_leaves_its_key_to_another_request() -> None:
    ledger = Ledger()
    ledger.record(DEEP)
    top_up = ledger.record(TopUp(user_id="ada", amount=2, idempotency_key="k-1"))
    assert top_up.balance_after == 2


def test_each_denied_attempt_is_recorded_even_under_one_key() -> None:
    ledger = Ledger()
    assert [ledger.record(DEEP).sequence for _ in range(3)] == [1, 2, 3]


def test_a_key_belongs_to_one_user() -> None:
    ledger = ledger_with(10)
    ledger.record(DEEP)
    ledger.record(SetBalance(user_id="bob", balance=10))
    other = Consume(user_id="bob", feature="scenario_extremes", idempotency_key="k-1")
    assert ledger.record(other).balance_after == 7
    assert ledger.balance() == 8


@pytest.mark.parametrize(
    ("field", "command"),
    [
        (
            "feature",
            Consume(user_id="ada", feature="headline_pick", event_id="e-1", idempotency_key="k-1"),
        ),
        (
            "event_id",
            Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1"),
        ),
        ("kind", TopUp(user_id="ada", amount=2, idempotency_key="k-1")),
    ],
)
def test_a_key_used_with_another_request_is_rejected_naming_the_first_field_that_differs(
    field: str, command: Consume | TopUp
) -> None:
    ledger = ledger_with(10)
    first = ledger.record(
        Consume(user_id="ada", feature="full_distribution", event_id="e-1", idempotency_key="k-1")
    )
    error = rejected(ledger.do(command))
    assert isinstance(error, IdempotencyKeyReusedError)
    assert error.metadata == {
        "idempotency_key": "k-1",
        "field": field,
        "transaction_id": first.transaction_id,
    }
    assert ledger.balance() == 8


def test_another_caller_may_retry_a_request() -> None:
    """The key belongs to the user: who asks is no part of the request."""
    ledger = ledger_with(10)
    first = ledger.record(DEEP)
    other = Consume(
        user_id="ada", feature="full_distribution", idempotency_key="k-1", caller="other"
    )
    assert replayed(ledger.do(other)) == first
