"""`entitlements-server health`: one question to a running server, for probes that run a command."""

import socket
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements_server.cli.options import with_settings
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.settings import UNIX
from entitlements_server.config.sources import Configuration

NOT_SERVING = 1
"""Exit status of `health` if the server is not SERVING, or does not answer."""


class NoAnswerError(ConfigurationError):
    """The server does not answer; the message says why."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(health)


@with_settings("listen", "tls_certificate", "tls_client_ca")
def health(
    configuration: Configuration,
    *,
    client_certificate: Annotated[
        Path | None,
        typer.Option(help="With tls_client_ca: a certificate of one of its authorities (PEM)."),
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(help="The private key of that certificate (PEM).")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest time.")
    ] = 3,
) -> None:
    """Ask the server of this configuration for its health. Exit status: 0 SERVING, 1 anything else."""
    settings = configuration.settings
    address = _to_call(settings.listen)
    try:
        if settings.tls_certificate is None:
            channel = grpc.insecure_channel(address)
        else:
            channel = _tls_channel(address, client_certificate, client_key, timeout_s)
        with channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s
            )
    except (OSError, grpc.RpcError) as error:
        reason = error.details() if isinstance(error, grpc.RpcError) else error.strerror or error
        hint = (
            " With tls_client_ca, add --client-certificate and --client-key."
            if settings.tls_client_ca is not None and client_certificate is None
            else ""
        )
        raise NoAnswerError(
            f"The server at {address} does not answer ({reason}): see whether it runs.{hint}"
        ) from error
    typer.echo(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(NOT_SERVING)


def _to_call(listen: str) -> str:
    """Return where a server that listens there can be called from its own machine."""
    if listen.startswith(UNIX):
        return listen
    host, _, port = listen.rpartition(":")
    if port == "0":
        raise ConfigurationError(
            "The server has taken a free port, which is not known here: name it with --listen."
        )
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return listen
    if not ip.is_unspecified:
        return listen
    return f"127.0.0.1:{port}" if ip.version == 4 else f"[::1]:{port}"  # noqa: PLR2004


def _tls_channel(
    address: str, certificate: Path | None, key: Path | None, timeout_s: float
) -> grpc.Channel:
    """Return a channel that trusts whatever certificate the server shows.

    Only a status is asked for and no secret is sent. The certificate file may be newer than the one in use,
    and its authority need not be known on this machine.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    pem, _ = _shown(context, address, timeout_s)
    context.load_verify_locations(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    _, shown = _shown(context, address, timeout_s)
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind != "URI"]
    names += [value for part in shown["subject"] for kind, value in part if kind == "commonName"]
    credentials = grpc.ssl_channel_credentials(
        pem.encode(),
        key.read_bytes() if key is not None else None,
        certificate.read_bytes() if certificate is not None else None,
    )
    options = [("grpc.ssl_target_name_override", name.replace("*", "any")) for name in names[:1]]
    return grpc.secure_channel(address, credentials, options)


def _shown(
    context: ssl.SSLContext, address: str, timeout_s: float
) -> tuple[str, Mapping[str, Any]]:
    """Return the server's certificate as PEM, and its names if it was verified."""
    if address.startswith(UNIX):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(timeout_s)
        plain.connect(address.removeprefix(UNIX))
    else:
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
    with plain, context.wrap_socket(plain) as secured:
        der = secured.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der), secured.getpeercert() or {}
