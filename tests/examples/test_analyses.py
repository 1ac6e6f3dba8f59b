"""The analyses of the example: real arithmetic, and words that speak of learning."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analytics_api import analyses
from analytics_api.events import EVENTS, Event
from analytics_api.model import DRAWS, INPUTS, AnalysisError, shares, variance_split

FINAL = EVENTS["harbour-final"]
ALIKE = replace(FINAL, first_rating=1500, second_rating=1500, venue=0)


def all_answers(event: Event) -> list[dict[str, Any]]:
    return [
        analyses.headline(event),
        analyses.full_distribution(event),
        analyses.scenario_extremes(event),
        analyses.comparative_analysis([event, EVENTS["valley-opener"]]),
        analyses.deep_dive_educational(event),
    ]


def test_sides_that_are_alike_share_equally() -> None:
    """The mean is one half within four standard errors."""
    drawn = shares(ALIKE)
    assert abs(drawn.mean() - 0.5) < 4 * drawn.std() / np.sqrt(DRAWS)


def test_the_median_is_the_share_at_the_stated_inputs() -> None:
    """The share only grows with the difference, and the inputs are symmetric about what is stated."""
    difference = FINAL.first_rating - FINAL.second_rating + FINAL.venue
    stated = 1 / (1 + 10 ** (-difference / 400))
    assert np.median(shares(FINAL)) == pytest.approx(stated, abs=0.005)


def test_the_same_event_gives_the_same_analysis() -> None:
    """A retry under the same key sees what was paid for."""
    assert all_answers(FINAL) == all_answers(FINAL)


def test_the_variance_is_split_as_the_inputs_are() -> None:
    """Near one half the share is almost linear: the parts go by the squared deviations."""
    first, total = variance_split(ALIKE)
    deviations = np.array([ALIKE.first_sd, ALIKE.second_sd, ALIKE.venue_sd, ALIKE.form_sd])
    expected = deviations**2 / np.sum(deviations**2)
    assert first == pytest.approx(expected, abs=0.03)
    assert total == pytest.approx(expected, abs=0.03)


def test_an_input_that_is_known_exactly_explains_nothing() -> None:
    """Its index is zero, exactly, alone and in total."""
    first, total = variance_split(replace(FINAL, venue_sd=0))
    assert (first[2], total[2]) == (0, 0)


def test_the_explanation_names_the_largest_part() -> None:
    """In words, the input that the numbers put first."""
    answer = analyses.deep_dive_educational(FINAL)
    split = answer["variance_split"]
    main = max(split, key=lambda name: split[name]["alone"])
    assert set(split) == set(INPUTS)
    assert next(iter(split)) == main
    assert f"the {main}" in answer["explanation"][1]


def test_percentiles_rise_and_scenarios_add_up() -> None:
    """The distribution is one."""
    answer = analyses.full_distribution(FINAL)
    percentiles = list(answer["percentiles"].values())
    assert percentiles == sorted(percentiles)
    assert sum(answer["scenarios"].values()) == pytest.approx(1, abs=0.001)


def test_conservative_bounds_enclose_aggressive_ones() -> None:
    """Less trust in the data is a wider range."""
    answer = analyses.scenario_extremes(FINAL)
    low, high = answer["conservative"]["bounds"]
    inner_low, inner_high = answer["aggressive"]["bounds"]
    assert 0 <= low < inner_low < inner_high < high <= 1


def test_a_comparison_ranks_what_is_known_best_first() -> None:
    """By the width of the range, and each pair adds up to one."""
    answer = analyses.comparative_analysis([EVENTS["valley-opener"], EVENTS["summit-meeting"]])
    ranges = [each["range_of_90_percent"] for each in answer["events"]]
    assert ranges == sorted(ranges)
    assert sum(answer["larger_share"].values()) == pytest.approx(1, abs=0.001)


def test_incomplete_data_are_an_error_and_no_number() -> None:
    """Rather none than NaN."""
    with pytest.raises(AnalysisError, match="Unrated Debut are incomplete"):
        analyses.headline(EVENTS["unrated-debut"])


def test_every_word_speaks_of_learning() -> None:
    """Depth of analysis is what is sold; nothing here is advice on an outcome."""
    words = json.dumps([all_answers(event) for event in list(EVENTS.values())[:3]]).lower()
    assert not re.search(r"\b(bet|bets|betting|odds|stake|winner|winning|wager|gambl\w*)\b", words)
    assert words.count("is no advice") == 15
