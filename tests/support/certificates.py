"""Real certificates, made for a test: an authority, servers and clients."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority."""

    def __init__(self, name: str = "Test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key, timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, common_name: str, *names: str, valid: timedelta = timedelta(days=1)
    ) -> tuple[bytes, bytes]:
        """Return a certificate and its key, both PEM. `names` are DNS names, or URIs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(subject, key, valid)
        if names:
            kinds = [
                x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)
                for name in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + valid)
        )


class ServerFiles:
    """The files of a server's TLS, in a folder."""

    def __init__(self, folder: Path, authority: Authority, client_ca: bytes = b"") -> None:
        self.certificate = folder / "server.pem"
        self.key = folder / "server-key.pem"
        self.client_ca = folder / "clients.pem"
        self.client_ca.write_bytes(client_ca or authority.pem)
        self.authority = authority
        self.renew()

    def renew(self, valid: timedelta = timedelta(days=1)) -> bytes:
        """Write a new certificate and key; returns the certificate."""
        certificate, key = self.authority.issue("localhost", "localhost", valid=valid)
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        return certificate
