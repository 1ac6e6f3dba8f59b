"""How the service is called: retries, deadline, keepalive, TLS and credentials, in one place."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from entitlements._address import is_local, may_be_several, target

DEFAULT_DEADLINE_S = 10.0
"""How long a call may take with all its retries, in seconds, unless told otherwise."""

_SERVICE = "entitlements.v1.EntitlementService"

# Only UNAVAILABLE is retried, and CANCELLED where it comes from the other side: so a gRPC server
# that stops ends the calls it has not looked at. Every other failure would come back, or is an
# answer, and a call that is cancelled on this side stays so. A write always carries a key, so a try
# whose reply was lost and the one after it are the same charge. The four pauses (0.2, 0.5, 1.25 and
# 3.1 s, each give or take a fifth) add up to about five seconds, in which a restarted service is
# back; five tries is also the most that gRPC makes. There is no wait_for_ready: with it a service
# that is down would be told apart from a slow one only by the deadline, and nobody would learn why
# it cannot be reached.
SERVICE_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": _SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2.5,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)
"""How calls are balanced and tried again, as gRPC's service config."""

# gRPC then keeps a Health/Watch open to each server, and calls only those that say SERVING. A
# server without that service counts as healthy. Where there is one server alone, its own answer
# says better what is wrong than "backend unhealthy".
_HEALTH_CHECKED: Mapping[str, Any] = MappingProxyType(
    {**SERVICE_CONFIG, "healthCheckConfig": {"serviceName": _SERVICE}}
)

# gRPC ignores a name that it does not know. tests/client/test_dead_peers.py shows what these do.
_OPTIONS: tuple[tuple[str, Any], ...] = (
    # Another try finds a restarted service only if gRPC has tried to connect again by then; left
    # alone it waits for up to two minutes, and 20 seconds for one that takes the connection and
    # then says nothing.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that stopped without a word is given up after 2 s of silence and 3 s without an answer
    # to the ping: early enough for another try within the deadline. The server's core answers
    # pings also while its Python is busy. The ping's own timeout is what counts; that of keepalive
    # only sets TCP_USER_TIMEOUT, for bytes that nobody acknowledges. An idle connection is pinged
    # as well, or the next call would be the one that finds out; the second-last option keeps gRPC
    # from stopping after two pings.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to speak TLS. Every value is PEM: its bytes, or the path of a file with them.

    Attributes:
        root_certificates: Whom to trust; None: the public authorities that gRPC ships with.
        client_certificate: This program's own certificate, for mutual TLS.
        client_key: Its private key.
        server_name: The name in the server's certificate, where it is not the host that is
            called, as with several IP addresses.
    """

    root_certificates: bytes | str | Path | None = None
    client_certificate: bytes | str | Path | None = None
    client_key: bytes | str | Path | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together: give both.")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and make gRPC's credentials of them.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.root_certificates),
            private_key=_pem(self.client_key),
            certificate_chain=_pem(self.client_certificate),
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that a channel is made of, checked."""

    target: str
    tls: Tls | None

    @classmethod
    def to(cls, address: str | Sequence[str], tls: Tls | None, token: str | None) -> "Connection":
        """Check what the constructor of a client was given.

        Raises:
            ValueError: The address is not one, or the token would cross a network unencrypted.
        """
        to = target(address)
        if token is not None and tls is None and not is_local(to):
            raise ValueError(
                f"A token must not be sent to {to} in plain text: pass tls=Tls(...). "
                "Where something else encrypts the way, build the channel yourself and use "
                "from_channel."
            )
        return cls(to, tls)

    def channel(self) -> grpc.Channel:
        """Open a channel for blocking calls. It connects with the first call."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, self._options())
        return grpc.secure_channel(self.target, self.tls.credentials(), self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        """Open a channel on the running event loop. It connects with the first call."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, self._options())
        return grpc.aio.secure_channel(self.target, self.tls.credentials(), self._options())

    def _options(self) -> tuple[tuple[str, Any], ...]:
        config = _HEALTH_CHECKED if may_be_several(self.target) else SERVICE_CONFIG
        options = (("grpc.service_config", json.dumps(dict(config))), *_OPTIONS)
        if self.tls is None or self.tls.server_name is None:
            return options
        name = self.tls.server_name
        return (
            *options,
            ("grpc.ssl_target_name_override", name),
            ("grpc.default_authority", name),
        )


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Make the headers that each call carries. The token goes nowhere else.

    Raises:
        ValueError: The token is empty or could not stand in a header.
    """
    if token is None:
        return ()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The token itself is a secret and stays out of the message.
        raise ValueError("The token must be printable ASCII without spaces, and not empty.")
    return (("authorization", f"Bearer {token}"),)


def checked_deadline_s(seconds: float) -> float:
    """Require a deadline: every call must end.

    Raises:
        ValueError: It is not a positive, finite number of seconds.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"deadline_s must be a positive number of seconds, not {seconds}.")
    return seconds


def _pem(value: bytes | str | Path | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return Path(value).read_bytes()
