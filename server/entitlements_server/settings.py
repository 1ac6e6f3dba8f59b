"""Every setting of the server, from one model: flag over environment over file over default."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from entitlements_server.callers import Caller, CallersError, read_callers

ENVIRONMENT_PREFIX = "ENTITLEMENTS_"
"""An option `--max-queued` is `ENTITLEMENTS_MAX_QUEUED` in the environment."""

_MAX_FILE_BYTES = 4 * 1024 * 1024


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
    tls_certificate: Path | None = Field(
        None, description="A PEM file: the server's certificate, then its chain. Turns TLS on."
    )
    tls_key: Path | None = Field(None, description="A PEM file: the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None,
        description="A PEM file of authorities. Then every client must show a certificate of one.",
    )
    insecure: bool = Field(
        default=False,
        description="Listen beyond loopback even without TLS or callers.",
    )
    reflection: Literal["callers", "open", "off"] = Field(
        "callers", description="Who may ask for reflection."
    )
    max_queued: int = Field(
        4096, ge=1, le=1_000_000, description="Commands that may wait; more are refused."
    )
    max_in_flight: int = Field(
        4096, ge=1, le=1_000_000, description="Calls worked on at once; more are refused."
    )
    transport: Literal["completion-queue", "threads"] = Field(
        "completion-queue",
        description="What serves calls: gRPC's completion queue, or a pool of threads, which is slower.",
    )
    max_connections: int = Field(
        4096, ge=1, le=1_000_000, description="Connections at once; more are closed as they come."
    )
    max_streams: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Calls at once on one connection; more wait in the client.",
    )
    max_streaming: int = Field(
        4096, ge=1, le=1_000_000, description="Streaming calls at once, in all."
    )
    max_streaming_per_connection: int = Field(
        16, ge=1, le=1_000_000, description="The same, of one connection."
    )
    max_unsent_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024 * 1024,
        le=2**40,
        description="Answers that may wait to be sent, in bytes; beyond them calls are refused.",
    )
    max_unsent_bytes_per_connection: int = Field(
        8 * 1024 * 1024, ge=1024 * 1024, le=2**40, description="The same, of one connection."
    )
    request_timeout_seconds: float = Field(
        5, ge=0.1, le=3600, description="How long a call may wait for its request."
    )
    connection_age_seconds: float = Field(
        1800, ge=1, le=1e7, description="After how long a client is asked to connect anew."
    )
    rate: float = Field(
        0,
        ge=0,
        le=1e9,
        description="Calls a second for each caller, unless it has its own; 0: any.",
    )
    burst: int = Field(
        0, ge=0, le=10**9, description="Calls at once for each caller; 0: those of one second."
    )
    drain_seconds: float = Field(
        30, ge=0, le=3600, description="How long calls may take to finish when stopping."
    )
    metrics_listen: Address | None = Field(
        None, description="Where to serve metrics for Prometheus, as HOST:PORT. Default: nowhere."
    )
    trace_to: str | None = Field(
        None,
        description="Where to send traces: URL of an OTLP gRPC receiver (extra otel)."
        " Default: no traces.",
    )
    log_calls: bool = Field(
        default=False, description="Log a line for every call, not only for those that went wrong."
    )
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least grave log lines to write."
    )


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that the server is told.

    Attributes:
        settings: The settings in force.
        callers: Who may call; empty: anyone, as nobody.
        file: The configuration file, or None.
        sources: Where each setting came from: flag, environment, file or default.
    """

    settings: Settings
    callers: tuple[Caller, ...]
    file: Path | None
    sources: Mapping[str, str]


def flag_of(name: str) -> str:
    """Return the flag of a setting: `max_queued` is `--max-queued`."""
    return f"--{name.replace('_', '-')}"


def read_configuration(file: Path | None = None, **flags: Any) -> Configuration:
    """Put the settings together; a flag that is None was not given.

    Args:
        file: The configuration file; None: the one that the environment names, if any.
        flags: Values from the command line, by the names of the settings.

    Raises:
        SettingsError: A value is wrong.
    """
    if file is None and (named := os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")):
        file = Path(named)
    given = {name: value for name, value in flags.items() if value is not None}
    content = _read_file(file) if file else {}
    tables = content.pop("callers", [])
    for name in content:
        if name not in Settings.model_fields:
            raise SettingsError(
                f"The configuration {file} has '{name}', which is no setting:"
                " `entitlements-server config` lists those there are."
            )
    sources = {name: _source(name, given, content) for name in Settings.model_fields}
    try:
        settings = _above(content)(**given)
        callers = read_callers(tables)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(
                _sentence(str(one["loc"][0]), one["msg"], sources, file) for one in error.errors()
            )
        ) from error
    except CallersError as error:
        raise SettingsError(f"The configuration {file}: {error}") from error
    return Configuration(settings, callers, file, sources)


def _above(content: dict[str, Any]) -> type[Settings]:
    """Return the settings with a file's content below everything but the defaults."""

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic passes it
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, content)

    return Layered


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.loads(opened.read(_MAX_FILE_BYTES).decode())
    except OSError as error:
        raise SettingsError(
            f"The configuration {file} cannot be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration {file} is not valid TOML: {error}.") from error


def _source(name: str, flags: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    if name in flags:
        return "flag"
    # Names of the environment are found whatever their case, as pydantic-settings does.
    if any(variable.upper() == ENVIRONMENT_PREFIX + name.upper() for variable in os.environ):
        return "environment"
    return "file" if name in content else "default"


def _sentence(name: str, problem: str, sources: Mapping[str, str], file: Path | None) -> str:
    where = {
        "flag": flag_of(name),
        "environment": ENVIRONMENT_PREFIX + name.upper(),
        "file": f"'{name}' in {file}",
    }.get(sources.get(name, ""), name)
    problem = problem.removeprefix("Value error, ").removeprefix("Input ")
    return f"The value of {where} is wrong: {problem}."
