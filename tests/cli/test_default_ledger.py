"""Where the ledger is if nobody says: on disk, in the home of whoever runs the server."""

import json
import stat
from pathlib import Path

import pytest

from entitlements import EntitlementClient
from support.server_process import ServerProcess, run

pytestmark = pytest.mark.slow


def test_without_a_store_the_ledger_is_a_file_of_this_account(tmp_path: Path) -> None:
    """It is announced, nobody else can read its folder, and the next server finds it again."""
    home = {"ENTITLEMENTS_STORE": "", "XDG_DATA_HOME": str(tmp_path / "data")}
    file = tmp_path / "data" / "entitlements" / "ledger.sqlite"
    for balance in (1, 2):
        with ServerProcess(**home) as server:
            assert (
                f"Ledger in sqlite://{file}, the default: --store puts it elsewhere\n"
                in server.output
            )
            with EntitlementClient(server.address) as client:
                assert client.top_up("ada", 1).balance_after == balance
            server.stop()
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    # What looks after the ledger looks there, too.
    assert json.loads(run("stats", "--json", **home).stdout)["tokens_held"] == 2


def test_a_ledger_in_memory_is_never_silent() -> None:
    """It has to be asked for, and says what happens to it."""
    with ServerProcess("--store", "memory://") as server:
        assert "Ledger in memory://, lost when this server stops\n" in server.output


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file is in its way; an account without a home has no default."""
    (tmp_path / "entitlements").touch()
    refused = run("serve", ENTITLEMENTS_STORE="", XDG_DATA_HOME=str(tmp_path))
    assert refused.returncode == 1
    assert "say with --store where the ledger is" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_json_may_stand_before_the_command(tmp_path: Path) -> None:
    """It means the same as after it; a command without it says so."""
    home = {"ENTITLEMENTS_STORE": "", "XDG_DATA_HOME": str(tmp_path)}
    with ServerProcess(**home) as server:
        server.stop()
    before, after = run("--json", "stats", **home), run("stats", "--json", **home)
    assert (before.returncode, before.stdout) == (0, after.stdout)
    refused = run("--json", "token", "new")
    assert refused.returncode == 2
    assert "prints no JSON" in refused.stderr


def test_the_server_has_a_version_and_completion() -> None:
    """As the command line of the client."""
    assert run("--version").stdout.startswith("entitlements ")
    asked = {"_ENTITLEMENTS_SERVER_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    completed = run(COMP_WORDS="entitlements-server ver", **asked)
    assert completed.stdout.split() == ["verify"]
