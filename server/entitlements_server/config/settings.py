"""Every setting of the server, with its default and its bounds."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from entitlements_server.config.errors import ConfigurationError

ENVIRONMENT_PREFIX = "ENTITLEMENTS_"
"""An option `--max-queued` is `ENTITLEMENTS_MAX_QUEUED` in the environment."""


UNIX = "unix:"
"""The beginning of an address that is a Unix domain socket."""

MAX_UNIX_PATH = 107
"""Longest path of a Unix domain socket, in bytes."""


class SettingsError(ConfigurationError):
    """A setting has a wrong value; the message is a sentence for each."""


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+", host) or not port.isdecimal():
        raise ValueError("write HOST:PORT, for example 127.0.0.1:50051 or [::1]:50051")
    if int(port) > 65535:  # noqa: PLR2004  # the highest port
        raise ValueError("the port must be 0 to 65535")
    return value


def default_store() -> str:
    """Return the URL of the ledger that is used if no other is configured: a file of this account's.

    It is where the XDG Base Directory Specification puts the data of programs.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    if not Path(data).is_absolute():
        # Unlike Path.home this never fails: an account without a home gets a URL that is refused.
        data = os.path.expanduser("~/.local/share")  # noqa: PTH111
    return f"sqlite://{quote(data)}/entitlements/ledger.sqlite"


Address = Annotated[str, AfterValidator(_address)]
"""A host and a port, as HOST:PORT."""


def _listen_address(value: str) -> str:
    if not value.startswith(UNIX):
        return _address(value)
    path = value.removeprefix(UNIX)
    if path.startswith("//"):
        path = path.removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise ValueError(
            f"write unix:/PATH with the absolute path of a socket, at most {MAX_UNIX_PATH} bytes"
        )
    return f"{UNIX}{path}"


ListenAddress = Annotated[str, AfterValidator(_listen_address)]
"""A host and a port, as HOST:PORT, or a Unix domain socket, as unix:/PATH."""


class Settings(BaseSettings):
    """The settings, each with its default. Times are in seconds.

    They are flat because each is also a flag, a variable and a word of the file.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        # An empty variable is how many tools write one that is not set.
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    listen: ListenAddress = Field(
        "127.0.0.1:50051",
        description="Where to listen, as HOST:PORT or unix:/PATH. Port 0 takes a free one.",
    )
    store: str = Field(
        default_factory=default_store,
        description="Where the ledger is: sqlite:///absolute/path, postgresql://host:port/database,"
        " redis://host:port, redis+cluster://host:port,host:port, or memory:// (lost when the server stops).",
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
        description="Allow listening beyond loopback without TLS or callers.",
    )
    reflection: Literal["callers", "open", "off"] = Field(
        "callers", description="Who may use reflection."
    )
    max_queued: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Commands that may wait for the engine; calls with more are shed.",
    )
    max_in_flight: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Maximum number of calls at a time; further calls are shed.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes that share the address: more than one on PostgreSQL and Redis only."
        " Limits are for each of them.",
    )
    transport: Literal["completion-queue", "threads"] = Field(
        "completion-queue",
        description="How calls are served: by gRPC's completion queue, or by a thread pool, which is slower.",
    )
    one_processor: bool = Field(
        default=True,
        description="Keep the threads that run Python on one processor, the least busy: they take turns anyway.",
    )
    max_connections: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Maximum number of connections; further connections are closed at once.",
    )
    max_streams: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Maximum number of calls at a time on one connection; further calls wait in the client.",
    )
    max_streaming: int = Field(
        4096, ge=1, le=1_000_000, description="Maximum number of streaming calls at a time."
    )
    max_streaming_per_connection: int = Field(
        16,
        ge=1,
        le=1_000_000,
        description="Maximum number of streaming calls at a time on one connection.",
    )
    max_unsent_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024 * 1024,
        le=2**40,
        description="Bytes of answers that may wait to be sent; beyond that calls are shed.",
    )
    max_unsent_bytes_per_connection: int = Field(
        8 * 1024 * 1024,
        ge=1024 * 1024,
        le=2**40,
        description="Bytes of answers that may wait to be sent on one connection.",
    )
    request_timeout_seconds: float = Field(
        5, ge=0.1, le=3600, description="Seconds that a call may wait for its request."
    )
    connection_age_seconds: float = Field(
        1800, ge=1, le=1e7, description="Seconds after which a client is asked to connect again."
    )
    require_keys: bool = Field(
        default=False, description="Reject writes that have no idempotency key."
    )
    refund_grace_seconds: int = Field(
        7 * 86_400,
        ge=1,
        le=10 * 366 * 86_400,
        description="Seconds that refunded tokens last whose own grant has expired.",
    )
    max_recorded_denials: int = Field(
        60,
        ge=0,
        le=1_000_000,
        description="Denied charges that are recorded of a user in a minute; further ones are only answered.",
    )
    rate: float = Field(
        0,
        ge=0,
        le=1e9,
        description="Calls per second for each caller without a rate of its own; 0: unlimited.",
    )
    burst: int = Field(
        0,
        ge=0,
        le=10**9,
        description="Calls that a caller may make at once; 0: as many as in one second.",
    )
    drain_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        description="Seconds that calls may take to finish when the server stops.",
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
        default=False, description="Log every call, not only those that failed."
    )
    log_format: Literal["console", "json"] = Field("console", description="Format of the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum log level."
    )
