"""The model: a Monte Carlo simulation in NumPy of what we do not know about an event.

The quantity of interest is the *share*: the fraction of many repetitions of the event in which the
first side comes out ahead. Four inputs are uncertain, so the share has a distribution.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from analytics_api.events import Event

Array = NDArray[np.float64]

INPUTS = ("first side's rating", "second side's rating", "venue", "day form")
"""The uncertain inputs, in the order of the columns of a sample."""

DRAWS = 20_000
"""Draws per analysis. The mean is exact to about a tenth of a percentage point."""


class AnalysisError(Exception):
    """The event cannot be analysed because its data are incomplete."""


def shares(event: Event, *, widen: float = 1.0) -> Array:
    """Draw the distribution of the share.

    Args:
        event: The event.
        widen: Factor for every standard deviation: above 1 for less trust in the data.

    Returns:
        `DRAWS` values of 0 to 1. The same event always gives the same draws.

    Raises:
        AnalysisError: The data of the event are incomplete.
    """
    generator = _generator(event, "shares")
    return _share(event, generator.standard_normal((DRAWS, len(INPUTS))) * widen)


def variance_split(event: Event, draws: int = 65_536) -> tuple[Array, Array]:
    """Split the variance of the share among the inputs, by Sobol's indices.

    Two independent samples A and B, and for each input a copy of A with that one column taken
    from B (Saltelli et al. 2010, table 2: estimators b and f).

    Args:
        event: The event.
        draws: Rows of each sample.

    Returns:
        First-order indices (the part of the variance that this input alone explains) and total
        indices (with all its interactions), one of each per input.

    Raises:
        AnalysisError: The data of the event are incomplete.
    """
    generator = _generator(event, "split")
    a, b = generator.standard_normal((2, draws, len(INPUTS)))
    of_a, of_b = _share(event, a), _share(event, b)
    both = np.concatenate([of_a, of_b])
    variance = both.var()
    # Centred, the products below vary less, and so do the estimates.
    of_b_centred = of_b - both.mean()
    first = np.empty(len(INPUTS))
    total = np.empty(len(INPUTS))
    for column in range(len(INPUTS)):
        mixed = a.copy()
        mixed[:, column] = b[:, column]
        of_mixed = _share(event, mixed)
        first[column] = np.mean(of_b_centred * (of_mixed - of_a)) / variance
        total[column] = np.mean((of_a - of_mixed) ** 2) / 2 / variance
    return first, total


def _share(event: Event, deviations: Array) -> Array:
    """Compute the share from standard deviations of each input, one row per draw."""
    first, second, venue, form = deviations.T
    difference = (
        (event.first_rating + event.first_sd * first)
        - (event.second_rating + event.second_sd * second)
        + (event.venue + event.venue_sd * venue)
        + event.form_sd * form
    )
    share: Array = 1 / (1 + 10 ** (-difference / 400))
    if not np.isfinite(share).all():
        raise AnalysisError(f"The data of {event.title} are incomplete.")
    return share


def _generator(event: Event, purpose: str) -> np.random.Generator:
    # Seeded by the event, so that a retry returns the same analysis.
    seed = hashlib.sha256(f"{purpose}/{event.event_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(seed[:8]))
