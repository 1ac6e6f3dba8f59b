"""Mutual TLS: certificates as credentials."""

from pathlib import Path

import grpc

from entitlements_server.app import running
from entitlements_server.config.callers import Caller
from entitlements_server.config.settings import Settings
from support.access import (
    CALLERS,
    CHARGER,
    EVERYTHING,
    HEALTH,
    READER,
    SERVICE,
    bearer,
    caller,
    code_of,
    reflects,
)
from support.certificates import Authority, ServerFiles


async def test_a_client_certificate_is_a_credential(tmp_path: Path) -> None:
    """By subject alternative name, or by the common name when there is none."""
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    callers = (
        Caller(name="web", roles=frozenset({CHARGER}), certificate="spiffe://example.org/web"),
        Caller(name="job", roles=frozenset({READER}), certificate="job"),
        Caller(name="old", roles=EVERYTHING, certificate="old", expires_s=1),
        caller("all", *EVERYTHING),
    )
    settings = Settings(
        listen="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
    )
    allowed = grpc.StatusCode.INVALID_ARGUMENT
    denied, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    consume, account = (f"/{SERVICE.full_name}/{rpc}" for rpc in ("Consume", "GetAccount"))
    async with running(settings, callers) as server:
        for subject, names, to_consume, to_read in (
            ("any", ("spiffe://example.org/web",), allowed, denied),
            ("job", (), denied, allowed),
            ("job", ("elsewhere.example.org",), unknown, unknown),
            ("old", (), unknown, unknown),
            ("nobody", (), unknown, unknown),
        ):
            certificate, key = authority.issue(subject, *names)
            credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
            async with grpc.aio.secure_channel(server.address, credentials) as channel:
                assert await code_of(channel, consume, ()) is to_consume, (subject, names)
                assert await code_of(channel, account, ()) is to_read, (subject, names)
                assert await code_of(channel, HEALTH, ()) is grpc.StatusCode.OK
                # A token counts before the certificate, a wrong one too.
                assert await code_of(channel, consume, bearer("all")) is allowed
                assert await code_of(channel, account, bearer("x")) is unknown
                path = "/entitlements.v1.EntitlementService/consume"
                known = grpc.StatusCode.UNIMPLEMENTED if to_read is not unknown else unknown
                assert await code_of(channel, path, ()) is known
                assert await reflects(channel, ()) is (
                    unknown if to_read is unknown else grpc.StatusCode.OK
                )


async def test_a_client_without_a_certificate_cannot_even_connect_to_mutual_tls(
    tmp_path: Path,
) -> None:
    authority, stranger = Authority(), Authority("Another")
    files = ServerFiles(tmp_path, authority)
    settings = Settings(
        listen="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
    )
    certificate, key = stranger.issue("web")
    async with running(settings, CALLERS) as server:
        for credentials in (
            grpc.ssl_channel_credentials(authority.pem),
            grpc.ssl_channel_credentials(authority.pem, key, certificate),
        ):
            async with grpc.aio.secure_channel(server.address, credentials) as channel:
                code = await code_of(channel, HEALTH, bearer("all"))
                assert code is grpc.StatusCode.UNAVAILABLE
