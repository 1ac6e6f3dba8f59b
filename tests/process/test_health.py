"""`entitlements-server health`, which probes run."""

import signal
from pathlib import Path

from support.certificates import Authority, ServerFiles
from support.server_process import ServerProcess, run


def test_a_server_that_serves_is_serving_and_one_that_is_gone_is_not() -> None:
    with ServerProcess() as server:
        asked = run("health", "--listen", server.address)
        assert (asked.returncode, asked.stdout) == (0, "SERVING\n")
        server.stop()
        gone = run("health", "--listen", server.address)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert f"The server at {server.address} does not answer" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_it_reads_the_configuration_of_the_server(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'listen = "unix:{tmp_path}/server.sock"\n')
    with ServerProcess("--config", str(config), listen=f"unix:{tmp_path}/server.sock"):
        assert run("health", "--config", str(config)).stdout == "SERVING\n"
    unknown = run("health", "--listen", "0.0.0.0:0")
    assert (unknown.returncode, "name it with --listen" in unknown.stderr) == (1, True)


def test_with_tls_it_trusts_the_certificate_that_is_served_though_the_file_is_newer(
    tmp_path: Path,
) -> None:
    """A probe must not fail between the new file and the signal to read it."""
    files = ServerFiles(tmp_path, Authority())
    tls = ("--tls-certificate", str(files.certificate))
    with ServerProcess(*tls, "--tls-key", str(files.key)) as server:
        assert run("health", "--listen", server.address, *tls).stdout == "SERVING\n"
        files.renew()
        assert run("health", "--listen", server.address, *tls).stdout == "SERVING\n"


def test_with_client_certificates_it_shows_one_or_says_that_it_needs_one(tmp_path: Path) -> None:
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    mine = [tmp_path / name for name in ("me.pem", "me-key.pem")]
    for file, content in zip(mine, authority.issue("probe"), strict=True):
        file.write_bytes(content)
    tls = ("--tls-certificate", str(files.certificate), "--tls-client-ca", str(files.client_ca))
    with ServerProcess(*tls, "--tls-key", str(files.key)) as server:
        asked = ("health", "--listen", server.address, *tls)
        without = run(*asked)
        assert (without.returncode, "add --client-certificate" in without.stderr) == (1, True)
        shown = ("--client-certificate", str(mine[0]), "--client-key", str(mine[1]))
        assert run(*asked, *shown).stdout == "SERVING\n"


def test_a_server_that_hangs_is_not_waited_for() -> None:
    with ServerProcess() as server:
        server.signal(signal.SIGSTOP)
        hung = run("health", "--listen", server.address, "--timeout", "0.5")
        server.signal(signal.SIGCONT)
    assert (hung.returncode, "does not answer" in hung.stderr) == (1, True)
