"""The events: two sides, their estimated strength, and how certain the estimates are."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Two sides that meet. Ratings are in points; a difference of 400 is a factor of ten.

    Attributes:
        event_id: Id of the event.
        title: The event, for people.
        first: Name of the first side.
        second: Name of the second side.
        first_rating: Estimated strength of the first side, in points.
        first_sd: Standard deviation of that estimate, in points.
        second_rating: As for the first side.
        second_sd: As for the first side.
        venue: Advantage that the venue gives to the first side, in points.
        venue_sd: Standard deviation of that advantage, in points.
        form_sd: How much the two sides vary from day to day, together, in points.
    """

    event_id: str
    title: str
    first: str
    second: str
    first_rating: float
    first_sd: float
    second_rating: float
    second_sd: float
    venue: float
    venue_sd: float
    form_sd: float


_EVENTS = (
    Event(
        event_id="harbour-final",
        title="Harbour Final",
        first="Gulls",
        second="Herons",
        first_rating=1620,
        first_sd=35,
        second_rating=1580,
        second_sd=60,
        venue=45,
        venue_sd=20,
        form_sd=50,
    ),
    Event(
        event_id="valley-opener",
        title="Valley Opener",
        first="Millers",
        second="Weavers",
        first_rating=1490,
        first_sd=90,
        second_rating=1505,
        second_sd=40,
        venue=60,
        venue_sd=15,
        form_sd=45,
    ),
    Event(
        event_id="summit-meeting",
        title="Summit Meeting",
        first="Pines",
        second="Larches",
        first_rating=1710,
        first_sd=30,
        second_rating=1540,
        second_sd=30,
        venue=0,
        venue_sd=25,
        form_sd=70,
    ),
    # Its second side was never rated, so its analysis fails. That must cost nothing.
    Event(
        event_id="unrated-debut",
        title="Unrated Debut",
        first="Swifts",
        second="Newcomers",
        first_rating=1500,
        first_sd=50,
        second_rating=float("nan"),
        second_sd=50,
        venue=40,
        venue_sd=20,
        form_sd=50,
    ),
)

EVENTS: Mapping[str, Event] = MappingProxyType({event.event_id: event for event in _EVENTS})
"""Every event by its id."""
