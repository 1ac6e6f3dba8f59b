"""The catalogue as a file that operators write."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from entitlements_server.config.catalogue import (
    CatalogueFileError,
    ReloadableCatalogue,
    read_catalogue,
)
from entitlements_server.ledger.catalogue import BUILT_IN

GOOD = """
[[features]]
feature = "headline_pick"
cost = 0
title = "Headline estimate"

[[features]]
feature = "season_review"
cost = 7
title = "Season review"
description = "All events of a season"
use_case = "Learning module"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.toml"
    path.write_text(GOOD)
    return path


def test_a_file_replaces_the_catalogue_that_ships(path: Path) -> None:
    catalogue = ReloadableCatalogue(path)()
    assert [(one.feature_id, one.cost) for one in catalogue.features] == [
        ("headline_pick", 0),
        ("season_review", 7),
    ]


def test_without_a_file_the_catalogue_that_ships_is_in_force() -> None:
    assert ReloadableCatalogue(None)() is BUILT_IN


def test_the_version_changes_with_the_content_and_not_with_comments(path: Path) -> None:
    version = read_catalogue(path).version
    path.write_text("# the same\n" + GOOD)
    assert read_catalogue(path).version == version
    path.write_text(GOOD.replace("cost = 7", "cost = 8"))
    assert read_catalogue(path).version != version


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "must hold"),
        ("[[features", "is not valid TOML"),
        ("prices = 1", "must hold"),
        ("features = []", "1 to 1000 features"),
        ("features = [1]", "number 1: write it as"),
        (GOOD.replace("cost = 7", 'cost = "7"'), "number 2: 'cost' must be a whole number"),
        (GOOD.replace("cost = 7", "cost = true"), "number 2: 'cost' must be a whole number"),
        (GOOD.replace("cost = 7", "cost = 7.5"), "number 2: 'cost' must be a whole number"),
        (GOOD.replace("cost = 7", "cost = -7"), "must be 0 to"),
        (GOOD.replace("cost = 7", ""), "number 2: 'cost' is missing"),
        (GOOD.replace("cost = 7", "price = 7"), "number 2: 'price' is not known"),
        (GOOD.replace("season_review", "headline_pick"), "name each feature once"),
        (GOOD.replace("season_review", "season review"), "no spaces"),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong_and_where(
    path: Path, content: str, problem: str
) -> None:
    path.write_text(content)
    with pytest.raises(CatalogueFileError) as refused:
        read_catalogue(path)
    assert problem in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_file_with_a_byte_order_mark_is_read(path: Path) -> None:
    """Editors of other systems write one."""
    version = read_catalogue(path).version
    path.write_text(GOOD, encoding="utf-8-sig")
    assert read_catalogue(path).version == version


def test_a_file_over_the_limit_is_refused_and_not_cut(path: Path) -> None:
    """Cut, it would sell for 1 what costs 1000."""
    dear = GOOD.replace("cost = 7\n", "").rstrip() + "\ncost = 1000\n"
    path.write_text("#" * (4 * 1024 * 1024 + 4 - len(dear)) + dear)
    with pytest.raises(CatalogueFileError, match="is larger than 4 MiB"):
        read_catalogue(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueFileError, match="cannot be read"):
        ReloadableCatalogue(tmp_path / "none.toml")


def test_a_broken_file_leaves_the_old_catalogue_in_force_and_says_why(path: Path) -> None:
    catalogue = ReloadableCatalogue(path)
    old = catalogue()
    path.write_text("[[features")
    with capture_logs() as lines:
        catalogue.reload()
    assert catalogue() is old
    assert "is not valid TOML" in lines[0]["reason"]
    path.write_text(GOOD.replace("cost = 7", "cost = 8"))
    catalogue.reload()
    assert catalogue().feature("season_review").cost == 8
