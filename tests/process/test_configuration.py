"""The commands that show settings and make tokens, and what is said of a wrong file."""

import json
import tomllib
from hashlib import sha256
from pathlib import Path

from support.configuration import callers
from support.server_process import ServerProcess, run


def test_config_prints_what_is_in_force_and_where_it_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    token = run("token", "new").stdout.strip()
    config.write_text(
        'log_format = "json"\nmax_queued = 5\nstore = "memory://"\ndrain_seconds = 7\n'
        + callers(("web", "charger", token))
    )
    printed = run(
        *("config", "--max-queued", "9"),
        ENTITLEMENTS_CONFIG=str(config),
        ENTITLEMENTS_STORE="redis://user:hunter2@db/0",
    ).stdout
    for line in (
        'log_format = "json"  # file',
        "max_queued = 9  # flag",
        'store = "redis://user:***@db/0"  # environment',
        "drain_seconds = 7.0  # file",
        'log_level = "info"  # default',
        "# catalogue is not set",
        'roles = ["charger"]',
    ):
        assert line in printed.splitlines()
    # It is TOML itself, and nothing in it is of use to a thief.
    assert tomllib.loads(printed)["callers"] == [{"name": "web", "roles": ["charger"]}]
    assert token not in printed
    assert sha256(token.encode()).hexdigest() not in printed
    assert "hunter2" not in printed


def test_token_new_prints_the_token_once_and_the_hash_to_store() -> None:
    made = run("token", "new")
    token = made.stdout.strip()
    assert token.startswith("ent_")
    assert sha256(token.encode()).hexdigest() in made.stderr
    assert token not in made.stderr


def test_a_wrong_configuration_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_queued = 0")
    refused = run("serve", "--config", str(file))
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr == (
        f"The value of 'max_queued' in {file} is wrong: should be greater than or equal to 1.\n"
    )


def test_a_misspelt_variable_is_warned_of_by_name(tmp_path: Path) -> None:
    """A ledger in memory instead of the one that was meant would go unnoticed."""
    warned = run("config", ENTITLEMENTS_STOR="redis://user:hunter2@db/0")
    assert warned.returncode == 0
    assert warned.stderr == (
        "The variable ENTITLEMENTS_STOR is no setting and has no effect:"
        " `entitlements-server config` lists those there are.\n"
    )
    assert "hunter2" not in warned.stdout


def test_a_server_logs_a_misspelt_variable_when_it_starts() -> None:
    environment = {"ENTITLEMENTS_STOR": "redis://user:hunter2@db/0"}
    with ServerProcess("--log-format", "json", **environment) as server:
        events = [json.loads(line) for line in server.log.splitlines()]
        (warning,) = [one for one in events if "ENTITLEMENTS_STOR" in one["event"]]
        assert warning["level"] == "warning"
        assert "hunter2" not in server.log


async def test_settings_that_need_a_restart_are_named_at_sighup(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_queued = 5\n" + callers(("web", "charger", "t")))
    with ServerProcess("--config", str(file)) as server:
        file.write_text('log_level = "info"\nmax_queued = 6\n' + callers(("web", "charger", "t")))
        await server.reload("Settings have changed that take effect at a restart.")
        (line,) = [line for line in server.log.splitlines() if "at a restart" in line]
        assert "['max_queued']" in line
