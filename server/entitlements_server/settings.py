"""Every setting of the server, from one model: flag over environment over default."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ENVIRONMENT_PREFIX = "ENTITLEMENTS_"
"""An option `--max-queued` is `ENTITLEMENTS_MAX_QUEUED` in the environment."""


class SettingsError(Exception):
    """A setting has a wrong value; the message is a sentence for each."""


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+", host) or not port.isdecimal():
        raise ValueError("write HOST:PORT, for example 127.0.0.1:50051 or [::1]:50051")
    if int(port) > 65535:  # noqa: PLR2004  # the highest port
        raise ValueError("the port must be 0 to 65535")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""A host and a port, as HOST:PORT."""


class Settings(BaseSettings):
    """The settings, each with its default. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    listen: Address = Field(
        "127.0.0.1:50051", description="Where to listen, as HOST:PORT. Port 0 takes a free one."
    )
    store: str = Field(
        "memory://",
        description="Where the ledger is: sqlite:///absolute/path, redis://host:port,"
        " redis+cluster://host:port,host:port or memory://.",
    )
    catalogue: Path | None = Field(
        None, description="A TOML file of features and prices. Default: the catalogue that ships."
    )
    max_queued: int = Field(
        4096, ge=1, le=1_000_000, description="Commands that may wait; more are refused."
    )
    drain_seconds: float = Field(
        30, ge=0, le=3600, description="How long calls may take to finish when stopping."
    )
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least grave log lines to write."
    )


def read_settings(**flags: Any) -> Settings:
    """Put the settings together; a flag that is None was not given.

    Raises:
        SettingsError: A value is wrong.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_sentence(str(one["loc"][0]), one["msg"], given) for one in error.errors())
        ) from error


def _sentence(name: str, problem: str, given: dict[str, Any]) -> str:
    source = f"--{name.replace('_', '-')}" if name in given else ENVIRONMENT_PREFIX + name.upper()
    problem = problem.removeprefix("Value error, ").removeprefix("Input ")
    return f"The value of {source} is wrong: {problem}."
