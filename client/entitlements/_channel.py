"""How the service is called: retries, deadline, keepalive, TLS and credentials."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from entitlements._address import is_local, may_be_several, target

DEFAULT_DEADLINE_S = 10.0
"""Default of the longest time for a call with all its retries, in seconds."""

_SERVICE = "entitlements.v1.EntitlementService"

# Only UNAVAILABLE is retried, and CANCELLED that comes from the server: a gRPC server that stops ends
# calls that it has not read with CANCELLED. Any other failure would happen again, or is an answer. A
# call that is cancelled on this side is not retried. A write always carries a key, so an attempt whose
# reply was lost and the next attempt are one charge. The four pauses (0.2, 0.5, 1.25 and 3.1 s, each
# plus or minus a fifth) add up to about five seconds, enough to restart a service. Five attempts are
# also the most that gRPC makes. wait_for_ready is off: with it, a service that is down would look like
# a slow one until the deadline, and the error would not say why it cannot be reached.
_FIRST_PAUSE_S = 0.2
_PAUSES = tuple(2.5**number for number in range(4))
_LONGEST_PAUSES_S = 1.2 * _FIRST_PAUSE_S * sum(_PAUSES)


def service_config(deadline_s: float, *, several: bool = False) -> Mapping[str, Any]:
    """Return how calls are balanced and retried, as gRPC's service config.

    Args:
        deadline_s: The longest time for a call. If the pauses would not fit into it they are shorter,
            so that the last attempt ends in time and the error has its reason.
        several: Whether there may be several servers.
    """
    first_s = _FIRST_PAUSE_S * min(1, 0.9 * deadline_s / _LONGEST_PAUSES_S)
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": _SERVICE}],
                "retryPolicy": {
                    "maxAttempts": len(_PAUSES) + 1,
                    "initialBackoff": f"{first_s:.9f}s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2.5,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
    if several:
        # With this, gRPC keeps a Health/Watch open to each server and calls only servers that are
        # SERVING. A server without that service counts as healthy. A single server is not watched: its
        # own error says more than "backend unhealthy".
        config["healthCheckConfig"] = {"serviceName": _SERVICE}
    return config


# gRPC ignores names that it does not know. tests/client/test_dead_peers.py shows what these do.
_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A retry finds a restarted service only if gRPC has reconnected by then. By default gRPC waits
    # up to two minutes between attempts, and 20 seconds for a peer that accepts the connection and
    # then stays silent.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The connection to a silent peer is closed after 2 s of silence and 3 s without an answer to a
    # ping: early enough for a retry within the deadline. The server's core answers pings even while
    # its Python is busy. The timeout of the ping is the one that counts; that of keepalive only sets
    # TCP_USER_TIMEOUT, for bytes that are not acknowledged. Idle connections are pinged as well,
    # or the next call would have to find out. max_pings_without_data keeps gRPC from stopping after
    # two pings.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to use TLS. Every value is PEM: the bytes, or the path of a file.

    Attributes:
        root_certificates: The authorities to trust. None: the public ones that gRPC ships with.
        client_certificate: The certificate of this program, for mutual TLS.
        client_key: Its private key.
        server_name: The name in the server's certificate, if it is not the host that is called,
            for example with several IP addresses.

    Raises:
        ValueError: Only one of `client_certificate` and `client_key` is given.
    """

    root_certificates: bytes | str | Path | None = None
    client_certificate: bytes | str | Path | None = None
    client_key: bytes | str | Path | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together. Give both.")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and make gRPC's credentials.

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
    """The checked arguments of a channel."""

    target: str
    tls: Tls | None
    deadline_s: float

    @classmethod
    def to(
        cls,
        address: str | Sequence[str],
        tls: Tls | None,
        token: str | None,
        deadline_s: float,
    ) -> "Connection":
        """Check the arguments of a client.

        Raises:
            TypeError: An argument is of another type.
            ValueError: The address or the deadline is not valid, or the token would be sent over a
                network in plain text.
        """
        to = target(address)
        if token is not None and tls is None and not is_local(to):
            raise ValueError(
                f"A token must not be sent to {to} in plain text. Pass tls=Tls(...). If "
                "something else encrypts the connection, build the channel yourself and use "
                "from_channel."
            )
        return cls(to, tls, checked_deadline_s(deadline_s))

    def channel(self) -> grpc.Channel:
        """Open a channel for blocking calls. It connects at the first call."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, self._options())
        return grpc.secure_channel(self.target, self.tls.credentials(), self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        """Open a channel on the running event loop. It connects at the first call."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, self._options())
        return grpc.aio.secure_channel(self.target, self.tls.credentials(), self._options())

    def _options(self) -> tuple[tuple[str, Any], ...]:
        config = service_config(self.deadline_s, several=may_be_several(self.target))
        options = (("grpc.service_config", json.dumps(config)), *_OPTIONS)
        if self.tls is None or self.tls.server_name is None:
            return options
        name = self.tls.server_name
        return (
            *options,
            ("grpc.ssl_target_name_override", name),
            ("grpc.default_authority", name),
        )


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Make the headers of each call. The token goes nowhere else.

    Raises:
        TypeError: The token is no text.
        ValueError: The token is empty or not allowed in a header.
    """
    if token is None:
        return ()
    if not isinstance(token, str):
        raise TypeError(f"The token must be str, not {type(token).__name__}.")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The token itself is a secret and stays out of the message.
        raise ValueError("The token must be printable ASCII without spaces, and not empty.")
    return (("authorization", f"Bearer {token}"),)


def checked_deadline_s(seconds: float) -> float:
    """Check the deadline. There always is one: every call must end.

    Raises:
        TypeError: It is no number.
        ValueError: It is not a positive, finite number of seconds.
    """
    if not isinstance(seconds, (int, float)):
        raise TypeError(
            f"deadline_s must be a number of seconds (float), not {type(seconds).__name__}."
        )
    if not 0 < seconds < float("inf"):
        raise ValueError(f"deadline_s must be a positive number of seconds, not {seconds}.")
    return seconds


def _pem(value: bytes | str | Path | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return Path(value).read_bytes()
