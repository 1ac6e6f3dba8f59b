"""TOML files, and the tables in them. A message names the place and never repeats a value: it may be a secret."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from entitlements_server.config.errors import ConfigurationError

MAX_BYTES = 4 * 1024 * 1024
"""Largest file that is read."""

_Table = TypeVar("_Table", bound="Table")


class Table(BaseModel):
    """A table of a TOML file. The description of a field says what it must be or do: "be text"."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read_toml(path: Path, what: str, kind: type[ConfigurationError]) -> dict[str, Any]:
    """Read a whole file, with or without a byte order mark.

    Args:
        path: The file.
        what: What it is, as the beginning of a sentence.
        kind: What to raise.

    Raises:
        ConfigurationError: Of that kind: it cannot be read, is too large or is no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise kind(f"{what} {path} cannot be read: {error.strerror}.") from error
    if len(content) > MAX_BYTES:
        raise kind(
            f"{what} {path} is larger than {MAX_BYTES >> 20} MiB, and nothing of it was used."
        )
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise kind(f"{what} {path} is not valid TOML: {error}.") from error


def read_table(
    model: type[_Table], name: str, table: object, where: str, kind: type[ConfigurationError]
) -> _Table:
    """Read one of the `[[name]]` tables of a file.

    Args:
        model: What it holds.
        name: Of the tables.
        table: The table.
        where: Which one it is, as the beginning of a sentence.
        kind: What to raise.

    Raises:
        ConfigurationError: Of that kind: something in it is wrong.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise kind(f"{where} {_problem(model, name, error)}") from error


def _problem(model: type[Table], name: str, error: ValidationError) -> str:
    """Say what is wrong, of several things one: a name that is misspelt before the one that is missing."""
    problems = error.errors(include_url=False, include_input=False)
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if not first["loc"]:
        own = first["type"] == "value_error"
        return str(first["ctx"]["error"]) if own else f"write it as a [[{name}]] table."
    field = str(first["loc"][0])
    match first["type"]:
        case "missing":
            return f"'{field}' is missing."
        case "extra_forbidden":
            return f"'{field}' is not known; there are {', '.join(fields)}."
        case _:
            return f"'{field}' must {fields[field].description}."
