"""Settings: a flag over the environment over the default, and clear words about wrong ones."""

from pathlib import Path

import pytest

from entitlements_server.settings import SettingsError, read_configuration


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
