"""The features that there are, and who has access."""

from typing import Any

import pytest

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature, access
from entitlements_server.ledger.errors import InvalidFieldError, UnknownFeatureError
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.ledger.values import Account


def feature(name: str, cost: int = 1, title: str = "Title") -> Feature:
    return Feature(feature_id=name, cost=cost, title=title)


def test_the_five_costs_are_as_specified() -> None:
    assert {feature.feature_id: feature.cost for feature in BUILT_IN.features} == {
        "headline_pick": 0,
        "full_distribution": 2,
        "scenario_extremes": 3,
        "comparative_analysis": 3,
        "deep_dive_educational": 5,
    }


def test_each_feature_that_ships_says_what_it_contains_and_is_good_for() -> None:
    for one in BUILT_IN.features:
        assert one.title
        assert one.description
        assert one.use_case


@pytest.mark.parametrize(
    ("balance", "cost", "allowed"),
    [(0, 0, True), (0, 1, False), (1, 2, False), (2, 2, True), (MAX_BALANCE, MAX_AMOUNT, True)],
)
def test_access_is_allowed_exactly_when_the_balance_covers_the_cost(
    balance: int, cost: int, allowed: bool
) -> None:
    answer = access(Account("ada", balance), feature("f", cost))
    assert (answer.feature, answer.required, answer.available) == ("f", cost, balance)
    assert answer.allowed is allowed


def test_an_unknown_feature_is_named_in_the_error() -> None:
    with pytest.raises(UnknownFeatureError, match="'crystal_ball'") as caught:
        BUILT_IN.feature("crystal_ball")
    assert caught.value.metadata == {"feature": "crystal_ball"}


def test_the_version_is_that_of_the_content() -> None:
    one = Catalogue((feature("a"), feature("b")))
    assert one.version == Catalogue((feature("a"), feature("b"))).version
    others = [
        Catalogue((feature("b"), feature("a"))),
        Catalogue((feature("a"),)),
        Catalogue((feature("a"), feature("b", cost=2))),
        Catalogue((feature("a"), feature("b", title="Other"))),
    ]
    assert len({one.version, *(other.version for other in others)}) == 5


@pytest.mark.parametrize("count", [0, Catalogue.MAX_FEATURES + 1])
def test_a_catalogue_has_1_to_1000_features(count: int) -> None:
    with pytest.raises(InvalidFieldError, match="1 to 1000 features"):
        Catalogue(tuple(feature(f"f{number}") for number in range(count)))


def test_a_catalogue_names_each_feature_once() -> None:
    with pytest.raises(InvalidFieldError, match="each feature once"):
        Catalogue((feature("a"), feature("b"), feature("a", cost=2)))


@pytest.mark.parametrize("cost", [-1, MAX_AMOUNT + 1])
def test_a_cost_is_0_to_10_to_the_12(cost: int) -> None:
    with pytest.raises(InvalidFieldError, match="'cost' must be 0 to"):
        feature("a", cost)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("feature_id", "feature"),
        ("title", "title"),
        ("description", "description"),
        ("use_case", "use_case"),
    ],
)
def test_a_field_that_is_too_long_is_rejected_by_its_name_in_the_file(
    field: str, name: str
) -> None:
    fields: dict[str, Any] = {"feature_id": "a", "title": "t"} | {field: "x" * 501}
    with pytest.raises(InvalidFieldError) as caught:
        Feature(cost=1, **fields)
    assert caught.value.metadata["field"] == name
