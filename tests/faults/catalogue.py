"""The catalogue of the checks: the one that ships, and features whose charges open access windows."""

from collections.abc import Mapping
from pathlib import Path

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature

SECOND_US = 1_000_000
DAY_S = 86_400

PRICES: Mapping[str, int] = {
    "headline_pick": 0,
    "full_distribution": 2,
    "scenario_extremes": 3,
    "comparative_analysis": 3,
    "deep_dive_educational": 5,
}
"""What is charged each time, as the product's page lists it."""

WINDOWED: Mapping[str, tuple[int, int]] = {
    "event_dossier": (2, DAY_S),
    "live_snapshot": (1, 30),
}
"""What is charged once an event: the price, and how long access lasts, seconds."""

CATALOGUE = Catalogue(
    (
        *BUILT_IN.features,
        *(
            Feature(feature_id=feature, cost=cost, title=feature, access_us=access_s * SECOND_US)
            for feature, (cost, access_s) in WINDOWED.items()
        ),
    )
)
"""The same for an engine."""


def catalogue_in(folder: Path) -> str:
    """Write the same for a server; returns the path of the file."""
    tables = [
        f'[[features]]\nfeature = "{one.feature_id}"\ncost = {one.cost}\ntitle = "{one.title}"\n'
        + (f'access = "PT{one.access_us // SECOND_US}S"\n' if one.access_us else "")
        for one in CATALOGUE.features
    ]
    path = folder / "catalogue.toml"
    path.write_text("\n".join(tables), "utf-8")
    return str(path)
