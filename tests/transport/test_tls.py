"""Certificate files: which are refused before anything is served."""

from pathlib import Path

import pytest

from entitlements_server.transport.tls import TlsError, TlsFiles, read_certificate
from support.certificates import Authority, ServerFiles


def test_a_file_over_the_limit_is_refused_and_not_cut(tmp_path: Path) -> None:
    """Cut, it would trust only the authorities that come first."""
    files = ServerFiles(tmp_path, Authority())
    good = TlsFiles(files.certificate, files.key, files.client_ca)
    read_certificate(good)
    padding = b"\n" * (1024 * 1024)
    files.client_ca.write_bytes(files.client_ca.read_bytes() + padding)
    with pytest.raises(TlsError, match="is larger than 1 MiB"):
        read_certificate(good)


@pytest.mark.parametrize("named", [("c", None, None), (None, "k", None), (None, None, "a")])
def test_half_of_what_tls_needs_is_refused(named: tuple[str | None, ...]) -> None:
    certificate, key, client_ca = (Path(one) if one else None for one in named)
    with pytest.raises(TlsError, match="both --tls-certificate and --tls-key"):
        TlsFiles.of(certificate, key, client_ca)
    assert TlsFiles.of(None, None, None) is None
