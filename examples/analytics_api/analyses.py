"""Five depths of one analysis, each as plain data with an explanation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analytics_api.events import Event
from analytics_api.model import DRAWS, INPUTS, Array, shares, variance_split

_NOTE = (
    "A model for learning how uncertainty works. It describes what is known and what is not, "
    "and is no advice."
)
_PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
_LEVEL = 0.05
"""Within this distance of one half the sides count as level."""


def headline(event: Event) -> dict[str, Any]:
    """Return one number, free for everyone."""
    share = float(shares(event).mean())
    return {
        "event": event.title,
        "estimate": _round(share),
        "meaning": f"In {share:.0%} of many repetitions {event.first} would come out ahead of "
        f"{event.second}. This number does not say how certain that is.",
        "note": _NOTE,
    }


def full_distribution(event: Event) -> dict[str, Any]:
    """Return percentiles, and the probability of three scenarios."""
    drawn = shares(event)
    low, high = np.percentile(drawn, (5, 95))
    return {
        "event": event.title,
        "draws": DRAWS,
        "mean": _round(drawn.mean()),
        "standard_deviation": _round(drawn.std()),
        "percentiles": _percentiles(drawn),
        "scenarios": {
            f"{event.first} stronger": _round((drawn > 0.5 + _LEVEL).mean()),
            "level": _round((np.abs(drawn - 0.5) <= _LEVEL).mean()),
            f"{event.second} stronger": _round((drawn < 0.5 - _LEVEL).mean()),
        },
        "meaning": f"Given what is known, the share lies between {low:.0%} and {high:.0%} in nine "
        "of ten cases. If the range is wide, more data would help more than more arithmetic.",
        "note": _NOTE,
    }


def scenario_extremes(event: Event) -> dict[str, Any]:
    """Return how far the answer moves between little and much trust in the data."""
    conservative = np.percentile(shares(event, widen=1.5), (1, 99))
    aggressive = np.percentile(shares(event), (25, 75))
    return {
        "event": event.title,
        "conservative": {
            "bounds": [_round(bound) for bound in conservative],
            "assumes": "Every uncertainty is half as large again as stated; 98 of 100 draws.",
        },
        "aggressive": {
            "bounds": [_round(bound) for bound in aggressive],
            "assumes": "Every uncertainty is exactly as stated; the middle half of the draws.",
        },
        "meaning": "A decision that holds at both ends of the conservative bounds does not depend "
        "on how good the data are. One that holds only within the aggressive bounds does.",
        "note": _NOTE,
    }


def comparative_analysis(events: Sequence[Event]) -> dict[str, Any]:
    """Compare several events, the most certain first."""
    drawn = {event.event_id: shares(event) for event in events}
    spread = {each: float(np.diff(np.percentile(drawn[each], (5, 95)))[0]) for each in drawn}
    ranked = sorted(events, key=lambda event: spread[event.event_id])
    return {
        "events": [
            {
                "event_id": event.event_id,
                "event": event.title,
                "median": _round(np.median(drawn[event.event_id])),
                "range_of_90_percent": _round(spread[event.event_id]),
            }
            for event in ranked
        ],
        "larger_share": {
            f"{one.event_id} > {other.event_id}": _round(
                (drawn[one.event_id] > drawn[other.event_id]).mean()
            )
            for one in ranked
            for other in ranked
            if one is not other
        },
        "meaning": f"{ranked[0].title} is the most certain and {ranked[-1].title} the least. New data "
        "would change the latter most.",
        "note": _NOTE,
    }


def deep_dive_educational(event: Event) -> dict[str, Any]:
    """Return the sources of the uncertainty, in numbers and in plain language."""
    drawn = shares(event)
    first, total = variance_split(event)
    order = np.argsort(first)[::-1]
    main, least = INPUTS[order[0]], INPUTS[order[-1]]
    together = float(first.sum())
    return {
        **full_distribution(event),
        "standard_error_of_mean": _round(drawn.std() / np.sqrt(DRAWS), 6),
        "variance_split": {
            INPUTS[index]: {"alone": _round(first[index]), "total": _round(total[index])}
            for index in order
        },
        "explanation": [
            (
                f"The estimate for {event.title} is {drawn.mean():.0%}, give or take "
                f"{drawn.std():.0%}. This is not an error of the computer: with {DRAWS} draws the mean "
                f"itself is exact to about {2 * drawn.std() / np.sqrt(DRAWS):.1%}."
            ),
            (
                f"Most of it comes from one input: the {main}. If we knew that exactly, the variance "
                f"would shrink by about {first[order[0]]:.0%}. Knowing the {least} exactly would "
                f"take away only about {max(first[order[-1]], 0):.0%}."
            ),
            (
                f"One by one, the inputs explain {min(together, 1):.0%} of the variance. The rest, if "
                "any, is interaction: one input matters more when another is high."
            ),
            f"So to learn more about this event, look at the {main} first.",
        ],
    }


def _percentiles(drawn: Array) -> dict[str, float]:
    values = np.percentile(drawn, _PERCENTILES)
    return {f"p{rank}": _round(value) for rank, value in zip(_PERCENTILES, values, strict=True)}


def _round(value: float | np.floating[Any], digits: int = 4) -> float:
    return round(float(value), digits)
