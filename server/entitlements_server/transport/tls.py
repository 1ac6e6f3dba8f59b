"""TLS and mutual TLS: certificates from files, reloaded while serving.

gRPC asks for the certificate at every handshake, so new connections get the new one and open
connections continue. A certificate is accepted only after a successful handshake in memory.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
import structlog

from entitlements_server.config.errors import ConfigurationError

log = structlog.get_logger()

_MAX_BYTES = 1024 * 1024
_ATTEMPTS = 3


class TlsError(ConfigurationError):
    """The certificate files cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificate files, in PEM format.

    Attributes:
        certificate: The server's certificate, then its chain.
        key: Its private key.
        client_ca: The authorities that client certificates must come from; None: no client
            certificates.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> Self | None:
        """Return the files that are named, or None if none is: no TLS.

        Raises:
            TlsError: Only half of what TLS needs is named.
        """
        if certificate is None and key is None and client_ca is None:
            return None
        if certificate is None or key is None:
            raise TlsError(
                "TLS needs both --tls-certificate and --tls-key; --tls-client-ca may be added."
            )
        return cls(certificate, key, client_ca)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was checked. `expires_s` is in seconds since 1970 UTC."""

    configuration: grpc.ServerCertificateConfiguration
    content: tuple[bytes, ...]
    expires_s: float


def read_certificate(files: TlsFiles) -> Certificate:
    """Read the files and check that a handshake with them succeeds now.

    Raises:
        TlsError: It fails, or a file cannot be read.
    """
    paths = [path for path in (files.certificate, files.key, files.client_ca) if path]
    for _ in range(_ATTEMPTS):
        content = tuple(_read(path) for path in paths)
        try:
            expires_s = _prove(files, content)
        except (ssl.SSLError, ValueError) as error:
            problem = error
        else:
            if content == tuple(_read(path) for path in paths):
                roots = content[2] if files.client_ca else None
                pair = (content[1], content[0])
                configuration = grpc.ssl_server_certificate_configuration([pair], roots)
                return Certificate(configuration, content, expires_s)
            problem = ValueError("the files changed while they were read")
    why = getattr(problem, "reason", None) or str(problem)
    raise TlsError(
        f"The certificate {files.certificate} with the key {files.key} cannot be used ({why}):"
        " both must be PEM, belong together, and be valid today"
        + (f", and {files.client_ca} must hold certificates." if files.client_ca else ".")
    )


class ReloadableCertificate:
    """The certificate for new connections, which can be reloaded while serving.

    Args:
        files: The files to read.

    Raises:
        TlsError: The files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._current = read_certificate(files)
        self._fetched = self._current

    @property
    def expires_s(self) -> float:
        """When it expires, seconds since 1970 UTC."""
        return self._current.expires_s

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials to listen with. They follow every later reload."""
        return grpc.dynamic_ssl_server_credentials(
            self._current.configuration,
            self._fetch,  # type: ignore[arg-type]  # None is allowed: no change
            require_client_authentication=self._files.client_ca is not None,
        )

    def reload(self) -> bool:
        """Read the files again. Returns whether they were accepted.

        If they cannot be used, the old certificate stays in use and a warning is logged.
        """
        try:
            new = read_certificate(self._files)
        except TlsError as error:
            log.warning(
                "The new certificate was rejected; the old one stays in use.", reason=str(error)
            )
            return False
        if new.content != self._current.content:
            self._current = new
            log.info("The new certificate is in use.", expires_s=round(new.expires_s))
        return True

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new certificate, if there is one. Called by gRPC on threads of its own."""
        current = self._current
        if current is self._fetched:
            return None
        self._fetched = current
        return current.configuration


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TlsError(f"The file {path} cannot be read: {error.strerror}.") from error
    if len(content) > _MAX_BYTES:
        raise TlsError(
            f"The file {path} is larger than {_MAX_BYTES >> 20} MiB: name a PEM file of certificates or"
            " of a key."
        )
    return content


def _prove(files: TlsFiles, content: tuple[bytes, ...]) -> float:
    """Perform a handshake in memory with a client that trusts only this certificate.

    Returns:
        When the certificate expires, seconds since 1970 UTC.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.client_ca:
        server_context.load_verify_locations(cadata=content[2].decode("ascii"))
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(cadata=content[0].decode("ascii"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for shake in (client.do_handshake, server.do_handshake, client.do_handshake):
        _step(shake)
    shown = client.getpeercert()
    assert shown is not None
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def _step(shake: Callable[[], None]) -> None:
    # One side may be waiting for the other.
    with suppress(ssl.SSLWantReadError):
        shake()


def _no_password() -> str:
    # Otherwise OpenSSL would ask for a password on the terminal.
    raise ValueError("the key is encrypted: store it without a password")
