"""The gRPC options of every transport. docs/operations.md explains each limit.

gRPC silently ignores an option with a wrong name, so a test checks the effect of each of these.
"""

from dataclasses import dataclass

MAX_REQUEST_BYTES = 1024 * 1024
"""Largest request. A batch of 1,000 charges with ids of maximum length has 0.7 MB."""

MAX_METADATA_BYTES = 16 * 1024
"""Most metadata per call. From half of this on, gRPC rejects some calls at random."""

_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_HANDSHAKE_MS = 10_000
_IDLE_MS = 15 * 60_000
_MIN_PING_INTERVAL_MS = 1_000
"""Clients that must notice a dead server within a deadline ping every few seconds."""

_MAX_PING_STRIKES = 2
_MAX_PENDING = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a transport. Times are in seconds.

    Attributes:
        max_connections: Connections at a time; further ones are closed.
        max_streams: Calls at a time on one connection; further ones wait in the client.
        connection_age_s: Age at which a client is asked to connect again.
        connection_grace_s: Time for its calls to finish then.
        request_timeout_s: How long a call may wait for its request.
        max_unsent_bytes: Bytes of unsent answers, in total.
        max_unsent_bytes_per_connection: The same, per connection.
        shares_port: Whether other processes of this account may listen on the same port. The kernel gives
            each connection to one of them.
    """

    max_connections: int = 4096
    max_streams: int = 1000
    connection_age_s: float = 1800
    connection_grace_s: float = 30
    request_timeout_s: float = 5
    max_unsent_bytes: int = 32 * 1024 * 1024
    max_unsent_bytes_per_connection: int = 8 * 1024 * 1024
    shares_port: bool = False


def options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """Return gRPC's options."""
    return (
        # Otherwise a second server could listen on the same port unnoticed.
        ("grpc.so_reuseport", int(limits.shares_port)),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES // 2),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.max_streams),
        ("grpc.max_connection_age_ms", round(limits.connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(max(limits.connection_grace_s, 1) * 1000)),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # Without it the one above has no effect (grpcio 1.85).
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", _MAX_PING_STRIKES),
        # Calls that gRPC has accepted and the dispatcher has not, at 14 kB each. Beyond this, gRPC
        # ends some at random without a reason. Our own limits give a reason, but come after it.
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    )
