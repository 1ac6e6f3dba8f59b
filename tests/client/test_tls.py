"""TLS, mutual TLS and the token, against a real TLS port."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from entitlements import (
    AsyncEntitlementClient,
    EntitlementClient,
    ServiceUnavailableError,
    Tls,
)
from entitlements.v1 import entitlement_service_pb2 as rpc

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Certificates:
    authority: Path
    server: tuple[bytes, bytes]
    client: tuple[bytes, bytes]


def issue(name: str, issuer: tuple[x509.Certificate, Key] | None) -> tuple[x509.Certificate, Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return certificate, key


def pem(certificate: x509.Certificate, key: Key) -> tuple[bytes, bytes]:
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = issue("authority", None)
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    path.write_bytes(pem(*authority)[0])
    return Certificates(
        path,
        pem(*issue("entitlements.internal", authority)),
        pem(*issue("analytics-api", authority)),
    )


class Listening(grpc.GenericRpcHandler):
    """Answers ListFeatures and keeps who asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        token = dict(details.invocation_metadata).get("authorization")

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.seen.append((token, context.auth_context().get("x509_common_name", [])))
            return rpc.ListFeaturesResponse().SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def service(certificates: Certificates) -> Iterator[tuple[str, Listening]]:
    handler = Listening()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    certificate, key = certificates.server
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=certificates.authority.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}", handler
    server.stop(0).wait()


async def test_mutual_tls_and_token_reach_the_service(
    service: tuple[str, Listening], certificates: Certificates
) -> None:
    """Certificates from a file or as bytes; the name in the certificate instead of the address."""
    address, handler = service
    certificate, key = certificates.client
    tls = Tls(
        root_certificates=certificates.authority,
        client_certificate=certificate,
        client_key=key,
        server_name="entitlements.internal",
    )
    with EntitlementClient(address, tls=tls, token="s3cret") as client:
        assert client.list_features() == ()
    async with AsyncEntitlementClient(address, tls=tls, token="s3cret") as aio_client:
        assert await aio_client.list_features() == ()
    assert handler.seen == [("Bearer s3cret", [b"analytics-api"])] * 2


@pytest.mark.parametrize("wrong", ["another name", "no client certificate"])
def test_a_service_that_cannot_be_trusted_gets_nothing(
    service: tuple[str, Listening], certificates: Certificates, wrong: str
) -> None:
    """Not even the token: the handshake fails, and that is a service that cannot be reached."""
    address, handler = service
    certificate, key = certificates.client
    mutual = {"client_certificate": certificate, "client_key": key}
    tls = Tls(
        root_certificates=certificates.authority,
        server_name="another.internal" if wrong == "another name" else "entitlements.internal",
        **(mutual if wrong == "another name" else {}),
    )
    with (
        EntitlementClient(address, tls=tls, token="s3cret", deadline_s=1) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        client.list_features()
    assert handler.seen == []
