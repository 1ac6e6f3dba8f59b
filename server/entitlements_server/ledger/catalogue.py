"""The features and their prices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import ClassVar

from msgspec import Struct

from entitlements_server.ledger.errors import InvalidFieldError, UnknownFeatureError
from entitlements_server.ledger.validation import (
    check_amount,
    check_id,
    check_period,
    check_text,
)
from entitlements_server.ledger.values import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A feature of the catalogue. `cost` is in tokens, 0 to 10^12; a cost of 0 is open to everyone.

    Attributes:
        access_us: How long one charge gives access to an event, microseconds, 1 second to 36,500 days;
            0: every use is charged.

    Raises:
        InvalidFieldError: A field is malformed or out of range.
    """

    feature_id: str
    cost: int
    title: str
    description: str = ""
    use_case: str = ""
    access_us: int = 0

    def __post_init__(self) -> None:
        # Named as in the catalogue file, which is where a wrong one comes from.
        check_id("feature", self.feature_id)
        check_amount("cost", self.cost, minimum=0)
        check_text("title", self.title)
        check_text("description", self.description)
        check_text("use_case", self.use_case)
        if self.access_us:
            check_period("access", self.access_us)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An ordered set of features. `version` is a hash of its contents.

    Raises:
        InvalidFieldError: It is empty or too long, or names a feature twice.
    """

    features: tuple[Feature, ...]
    version: str = field(init=False)
    _by_id: Mapping[str, Feature] = field(init=False, repr=False, compare=False)

    MAX_FEATURES: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        if not 1 <= len(self.features) <= self.MAX_FEATURES:
            raise InvalidFieldError("features", f"must list 1 to {self.MAX_FEATURES} features")
        by_id = {feature.feature_id: feature for feature in self.features}
        if len(by_id) < len(self.features):
            raise InvalidFieldError("features", "must name each feature once")
        content = json.dumps([_content(feature) for feature in self.features])
        object.__setattr__(self, "_by_id", by_id)
        object.__setattr__(self, "version", sha256(content.encode()).hexdigest()[:12])

    def feature(self, feature: str) -> Feature:
        """Return a feature by its id.

        Raises:
            UnknownFeatureError: It is not in the catalogue.
        """
        found = self._by_id.get(feature)
        if found is None:
            raise UnknownFeatureError(feature)
        return found


def _content(feature: Feature) -> tuple[object, ...]:
    """Return what the version depends on. A field that came later counts only where it is used."""
    texts = (feature.title, feature.description, feature.use_case)
    access = (feature.access_us,) if feature.access_us else ()
    return (feature.feature_id, feature.cost, *texts, *access)


class Access(Struct, frozen=True, gc=False):
    """Whether an account covers a feature: `required` and `available` are in tokens.

    Attributes:
        access_until_us: End of the access window that covers it, microseconds since 1970 UTC; 0: none
            does.
    """

    feature: str
    required: int
    available: int
    access_until_us: int = 0

    @property
    def allowed(self) -> bool:
        """The access rule: the tokens cover the cost. A free feature is always covered."""
        return self.available >= self.required


def access(account: Account, feature: Feature, quantity: int = 1) -> Access:
    """Return whether `account`, which is settled, could be charged for uses of `feature` now."""
    return Access(feature.feature_id, feature.cost * quantity, account.balance)


BUILT_IN = Catalogue(
    (
        Feature(
            feature_id="headline_pick",
            cost=0,
            title="Headline estimate",
            description="Basic prediction",
            use_case="Educational access, free tier",
        ),
        Feature(
            feature_id="full_distribution",
            cost=2,
            title="Full distribution",
            description="Complete percentiles and scenarios",
            use_case="Depth analysis",
        ),
        Feature(
            feature_id="scenario_extremes",
            cost=3,
            title="Scenario extremes",
            description="Conservative and aggressive bounds",
            use_case="Risk assessment",
        ),
        Feature(
            feature_id="comparative_analysis",
            cost=3,
            title="Comparative analysis",
            description="Multi-event comparison",
            use_case="Portfolio analysis",
        ),
        Feature(
            feature_id="deep_dive_educational",
            cost=5,
            title="Educational deep dive",
            description="Full uncertainty and explainability",
            use_case="Learning module",
        ),
    )
)
"""The catalogue that ships."""
