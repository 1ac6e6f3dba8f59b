"""Settings: a flag over the environment over the default, and clear words about wrong ones."""

from pathlib import Path

import pytest

from entitlements_server.config.settings import SettingsError
from entitlements_server.config.sources import read_configuration
from support.configuration import callers


def test_a_flag_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_configuration(listen=None).settings.listen == "127.0.0.1:50051"
    monkeypatch.setenv("ENTITLEMENTS_LISTEN", "127.0.0.1:1")
    assert read_configuration(listen=None).settings.listen == "127.0.0.1:1"
    assert read_configuration(listen="127.0.0.1:2").settings.listen == "127.0.0.1:2"


def test_the_file_is_below_the_environment_and_above_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('listen = "127.0.0.1:1"\nmax_queued = 1\nlog_level = "error"\n')
    monkeypatch.setenv("ENTITLEMENTS_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("ENTITLEMENTS_MAX_QUEUED", "2")
    found = read_configuration(file, listen="127.0.0.1:3")
    settings, sources = found.settings, found.sources
    assert (settings.listen, sources["listen"]) == ("127.0.0.1:3", "flag")
    assert (settings.max_queued, sources["max_queued"]) == (2, "environment")
    assert (settings.log_level, sources["log_level"]) == ("error", "file")
    assert (settings.log_format, sources["log_format"]) == ("console", "default")
    monkeypatch.setenv("ENTITLEMENTS_CONFIG", str(file))
    assert read_configuration().settings.log_level == "error"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:50051", "[::1]:50051", "0.0.0.0:1"])
def test_a_listening_address_is_a_host_and_a_port(listen: str) -> None:
    assert read_configuration(listen=listen).settings.listen == listen


@pytest.mark.parametrize("listen", ["unix:/run/ent.sock", "unix:///run/ent.sock"])
def test_a_listening_address_may_be_a_unix_domain_socket(listen: str) -> None:
    assert read_configuration(listen=listen).settings.listen == "unix:/run/ent.sock"


@pytest.mark.parametrize("listen", ["unix:ent.sock", "unix:", "unix:/", f"unix:/{'x' * 107}"])
def test_the_path_of_a_socket_is_absolute_and_short(listen: str) -> None:
    with pytest.raises(SettingsError, match="write unix:/PATH with the absolute path"):
        read_configuration(listen=listen)


@pytest.mark.parametrize("listen", ["50051", "localhost", "::1:50051", "a b:1", "host:99999", ""])
def test_any_other_listening_address_is_refused(listen: str) -> None:
    with pytest.raises(SettingsError, match=r"The value of --listen is wrong: .*[Pp](ort|ORT)"):
        read_configuration(listen=listen)


def test_a_wrong_value_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENTITLEMENTS_MAX_QUEUED", "none")
    with pytest.raises(SettingsError, match="ENTITLEMENTS_MAX_QUEUED is wrong"):
        read_configuration()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("max_queued = 0", "'max_queued' in {file} is wrong"),
        ("max_qeued = 1", "'max_qeued', which is no setting"),
        ("max_queued = ", "is not valid TOML"),
        ('[[callers]]\nname = "web"', "caller number 1: 'roles' is missing"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    file = tmp_path / "server.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        read_configuration(file)
    assert problem.format(file=file) in str(refused.value)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Editors of other systems write one."""
    file = tmp_path / "server.toml"
    file.write_text("max_queued = 5\n", encoding="utf-8-sig")
    assert read_configuration(file).settings.max_queued == 5


def test_a_file_over_the_limit_is_refused_and_not_cut(tmp_path: Path) -> None:
    """Cut, its last number would be another one."""
    file = tmp_path / "server.toml"
    end = "\nmax_queued = 1000\n"
    file.write_text("#" * (4 * 1024 * 1024 + 3 - len(end)) + end)
    with pytest.raises(SettingsError, match="is larger than 4 MiB, and nothing of it was used"):
        read_configuration(file)


def test_an_empty_variable_is_as_if_it_were_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CATALOGUE", "MAX_QUEUED", "CONFIG", "STOR"):
        monkeypatch.setenv(f"ENTITLEMENTS_{name}", "")
    found = read_configuration()
    assert found.settings.catalogue is None
    assert (found.settings.max_queued, found.sources["max_queued"]) == (4096, "default")
    assert found.warnings == ()


def test_a_variable_that_is_no_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENTITLEMENTS_STOR", "redis://user:hunter2@db")
    (warning,) = read_configuration().warnings
    assert warning.startswith("The variable ENTITLEMENTS_STOR is no setting and has no effect")
    assert "hunter2" not in warning


def test_what_the_client_and_kubernetes_set_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ADDRESS", "TOKEN", "CLIENT_KEY", "CONFIG_NOT"):
        monkeypatch.setenv(f"ENTITLEMENTS_{name}", "x")
    for name in ("SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_50051_TCP_ADDR", "REDIS_PORT"):
        monkeypatch.setenv(f"ENTITLEMENTS_{name}", "x")
    (warning,) = read_configuration().warnings
    assert "ENTITLEMENTS_CONFIG_NOT" in warning


def test_a_configuration_can_be_read_again_with_the_same_flags(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_queued = 1\n")
    found = read_configuration(file, listen="127.0.0.1:1")
    file.write_text("max_queued = 2\n")
    again = found.read_again().settings
    assert (again.max_queued, again.listen) == (2, "127.0.0.1:1")


def test_a_caller_whose_credentials_have_expired_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(callers(("web", "reader", "t")) + "expires = 2001-01-31T00:00:00Z\n")
    (warning,) = read_configuration(file).warnings
    assert "'web' expired at 2001-01-31T00:00:00Z, so it cannot call" in warning


def test_a_caller_that_could_never_show_its_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    caller = '[[callers]]\nname = "web"\nroles = ["reader"]\ncertificate = "web"\n'
    tls = 'tls_certificate = "server.pem"\ntls_key = "key.pem"\n'
    for settings in ("", tls):
        file.write_text(settings + caller)
        with pytest.raises(SettingsError, match="'web' has a certificate, and nobody can show"):
            read_configuration(file)
    file.write_text(tls + 'tls_client_ca = "ca.pem"\n' + caller)
    assert read_configuration(file).callers[0].certificate == "web"
