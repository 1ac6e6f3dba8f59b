from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreConfigurationError
from support.ledger import commit, top_up
from support.redis import RedisServer, free_port


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that speaks nothing but TLS, and wants a user and a password."""
    pem, key = certificate(tmp_path, "server")
    port = free_port()
    with RedisServer(
        port="0",
        tls_port=str(port),
        tls_cert_file=str(pem),
        tls_key_file=str(key),
        tls_ca_cert_file=str(pem),
        tls_auth_clients="no",
        user="ledger on >s:cret ~* +@all",
    ) as server:
        yield server


async def test_tls_with_a_password_and_a_database(tls_server: RedisServer, tmp_path: Path) -> None:
    """rediss:// encrypts, checks the certificate, logs in and chooses the database."""
    at = f"rediss://ledger:s%3Acret@127.0.0.1:{tls_server.port}"
    options = f"?ca_file={tmp_path}/server.pem"
    store, other = await open_store(f"{at}/3{options}"), await open_store(f"{at}/4{options}")
    await commit(store, top_up("ada", 10))
    assert (await store.account("ada")).balance == 10
    assert (await other.account("ada")).balance == 0
    await store.close()
    await other.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls_server: RedisServer, tmp_path: Path
) -> None:
    """Without the right CA there is no connection, and the message says why."""
    certificate(tmp_path, "stranger")
    url = f"rediss://ledger:s%3Acret@127.0.0.1:{tls_server.port}"
    for options in ("", f"?ca_file={tmp_path}/stranger.pem"):
        with pytest.raises(StoreConfigurationError, match="CERTIFICATE_VERIFY_FAILED") as refused:
            await open_store(url + options)
        assert "cret" not in str(refused.value)
