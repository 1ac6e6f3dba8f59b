"""The catalogue as a file, and the one in force."""

import tomllib
from pathlib import Path
from typing import Any

import structlog

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature
from entitlements_server.ledger.errors import InvalidFieldError

log = structlog.get_logger()

_MAX_BYTES = 4 * 1024 * 1024
_FIELDS = {"feature": str, "cost": int, "title": str, "description": str, "use_case": str}
_REQUIRED = ("feature", "cost", "title")


class CatalogueFileError(Exception):
    """The file is no catalogue; the message says where and why."""


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue: a TOML file of `[[features]]` tables.

    Each has `feature`, `cost` (tokens, 0 to 10^12) and `title`, and may have `description` and
    `use_case`.

    Raises:
        CatalogueFileError: The file cannot be read or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(_MAX_BYTES).decode())
    except OSError as error:
        raise CatalogueFileError(
            f"The catalogue {path} cannot be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueFileError(f"The catalogue {path} is not valid TOML: {error}.") from error
    tables = content.pop("features", None)
    if content or not isinstance(tables, list):
        raise CatalogueFileError(
            f"The catalogue {path} must hold [[features]] tables and nothing else."
        )
    try:
        return Catalogue(tuple(_feature(path, *entry) for entry in enumerate(tables, start=1)))
    except InvalidFieldError as error:
        raise CatalogueFileError(f"The catalogue {path}: {error}") from error


def _feature(path: Path, number: int, table: Any) -> Feature:
    where = f"The catalogue {path}, feature number {number}:"
    if not isinstance(table, dict):
        raise CatalogueFileError(f"{where} write it as a [[features]] table.")
    for name, value in table.items():
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise CatalogueFileError(f"{where} '{name}' is not known; there are {known}.")
        # A TOML boolean is a Python int, too.
        if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            kind = "a whole number" if _FIELDS[name] is int else "text"
            raise CatalogueFileError(f"{where} '{name}' must be {kind}.")
    missing = [name for name in _REQUIRED if name not in table]
    if missing:
        raise CatalogueFileError(f"{where} '{missing[0]}' is missing.")
    try:
        return Feature(feature_id=table.pop("feature"), **table)
    except InvalidFieldError as error:
        raise CatalogueFileError(f"{where} {error}") from error


class CatalogueInForce:
    """The catalogue that prices come from, and how it is replaced while serving.

    Args:
        path: The file to read it from; None: the catalogue that ships.

    Raises:
        CatalogueFileError: The file is no catalogue.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._current = read_catalogue(path) if path else BUILT_IN

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
