"""The catalogue as a file, and the one in force."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BeforeValidator, Field, TypeAdapter

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.tables import Table, read_table, read_toml
from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature
from entitlements_server.ledger.errors import InvalidFieldError

log = structlog.get_logger()


class CatalogueFileError(ConfigurationError):
    """The file is no catalogue; the message says where and why."""


_PERIOD = TypeAdapter(timedelta)


def _period(value: object) -> timedelta:
    """Read an ISO 8601 duration. pydantic reads more: numbers are seconds to it."""
    if not isinstance(value, str) or not value.startswith("P"):
        raise ValueError
    return _PERIOD.validate_python(value)


class FeatureTable(Table):
    """A feature in the words of the file. What its values may be, `Feature` says."""

    feature: str = Field(description="be text")
    cost: int = Field(description="be a whole number")
    title: str = Field(description="be text")
    description: str = Field("", description="be text")
    use_case: str = Field("", description="be text")
    access: Annotated[timedelta | None, BeforeValidator(_period)] = Field(
        None, description='be an ISO 8601 duration, such as "PT48H" or "P30D"'
    )


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue: a TOML file of `[[features]]` tables.

    Each has `feature`, `cost` (tokens, 0 to 10^12) and `title`, and may have `description` and
    `use_case`, and `access`: for how long one charge gives access to an event, an ISO 8601 duration.

    Raises:
        CatalogueFileError: The file cannot be read or holds something else.
    """
    content = read_toml(path, "The catalogue", CatalogueFileError)
    tables = content.pop("features", None)
    if content or not isinstance(tables, list):
        raise CatalogueFileError(
            f"The catalogue {path} must hold [[features]] tables and nothing else."
        )
    features = tuple(_feature(path, *entry) for entry in enumerate(tables, start=1))
    try:
        return Catalogue(features)
    except InvalidFieldError as error:
        raise CatalogueFileError(f"The catalogue {path}: {error}") from error


def _feature(path: Path, number: int, table: object) -> Feature:
    where = f"The catalogue {path}, feature number {number}:"
    values = read_table(FeatureTable, "features", table, where, CatalogueFileError)
    try:
        return Feature(
            feature_id=values.feature,
            access_us=0 if values.access is None else _microseconds(values.access),
            **values.model_dump(exclude={"feature", "access"}),
        )
    except InvalidFieldError as error:
        raise CatalogueFileError(f"{where} {error}") from error


def _microseconds(period: timedelta) -> int:
    # One that is out of range, also 0, is for Feature to refuse, and 0 would be no access there.
    return period // timedelta(microseconds=1) or -1


class ReloadableCatalogue:
    """The catalogue that prices come from, and how it is replaced while serving.

    Args:
        path: The file to read it from, if there is one.
        built_in: The catalogue without a file.

    Raises:
        CatalogueFileError: The file is no catalogue.
    """

    def __init__(self, path: Path | None, built_in: Catalogue = BUILT_IN) -> None:
        self._path = path
        self._current = read_catalogue(path) if path else built_in

    def __call__(self) -> Catalogue:
        """Return the catalogue in force."""
        return self._current

    def reload(self) -> bool:
        """Read the file again. A broken file leaves the old catalogue in force and is logged.

        Returns:
            Whether it was taken.
        """
        if self._path is None:
            return True
        try:
            self._current = read_catalogue(self._path)
        except CatalogueFileError as error:
            log.warning(
                "The new catalogue was not taken; the old one stays in force.",
                reason=str(error),
                catalogue_version=self._current.version,
            )
            return False
        log.info("A new catalogue is in force.", catalogue_version=self._current.version)
        return True
