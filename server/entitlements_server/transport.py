"""How the server listens: limits of the transport, TLS, and what must not be exposed."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import grpc

from entitlements_server.callers import Caller
from entitlements_server.settings import Settings
from entitlements_server.tls import CertificateInForce, TlsError, TlsFiles

MAX_REQUEST_BYTES = 1024 * 1024
"""Largest request: a batch of 1,000 charges with ids of the greatest length has 0.7 MB."""

MAX_METADATA_BYTES = 16 * 1024
"""Most metadata that a call may be sent with; from half of it on, gRPC refuses some at random."""

_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_LEAST_PING_INTERVAL_MS = 10_000
_MOST_PING_STRIKES = 2
_MAX_PENDING = 100_000


class ListenError(Exception):
    """The address cannot be listened on; the message says what to do."""


def options(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Return gRPC's options. docs/operations.md says what each limit is for."""
    return (
        # Otherwise a second server binds the same port in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES // 2),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.max_connection_age_ms", round(settings.connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round(max(settings.drain_seconds, 1) * 1000)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _LEAST_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", _MOST_PING_STRIKES),
        # Beyond 1,000 calls not yet taken up, gRPC would cancel some of them at random and without
        # a word. Our own limits refuse what is too much, with a reason and a delay.
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    )


def certificate_of(settings: Settings) -> CertificateInForce | None:
    """Return the certificate that the settings name, or None: no TLS.

    Raises:
        ListenError: The settings name half of one, or the files are of no use.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None and settings.tls_client_ca is None:
        return None
    if certificate is None or key is None:
        raise ListenError(
            "TLS needs both --tls-certificate and --tls-key; --tls-client-ca may be added."
        )
    try:
        return CertificateInForce(TlsFiles(certificate, key, settings.tls_client_ca))
    except TlsError as error:
        raise ListenError(str(error)) from error


def require_safe(settings: Settings, callers: Sequence[Caller]) -> None:
    """Refuse to be reachable from elsewhere without both TLS and callers.

    Raises:
        ListenError: It would be, and `insecure` does not say that it is meant.
    """
    if settings.insecure or _is_loopback(settings.listen.rpartition(":")[0].strip("[]")):
        return
    missing = [
        what
        for what, there in (
            ("TLS (--tls-certificate and --tls-key)", settings.tls_certificate is not None),
            ("callers ([[callers]] in the file that --config names)", bool(callers)),
        )
        if not there
    ]
    if missing:
        raise ListenError(
            f"{settings.listen} can be reached from other machines and there is no"
            f" {' and no '.join(missing)}: add that, listen on 127.0.0.1, or say --insecure if it"
            " is meant."
        )


def listen(server: grpc.aio.Server, address: str, certificate: CertificateInForce | None) -> str:
    """Listen at an address, and return where, as HOST:PORT with the real port.

    Raises:
        ListenError: The address cannot be listened on.
    """
    host = address.rpartition(":")[0]
    try:
        if certificate is None:
            port = server.add_insecure_port(address)
        else:
            credentials: Any = certificate.credentials()
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ListenError(
            f"The address {address} cannot be listened on: another server has it, or it is"
            " not an address of this machine. Stop the other one, or choose another with --listen."
        ) from error
    return f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
