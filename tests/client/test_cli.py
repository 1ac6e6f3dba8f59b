"""The command line, as a program against a real service."""

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

import pytest

import entitlements
from support.command_line import Run, runner
from support.programs import command
from support.server_process import ServerProcess


@pytest.fixture
def run(
    service: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return runner(service.address, monkeypatch, capsys)


def test_it_is_installed_as_a_program(service: ServerProcess, user: str) -> None:
    """A process of its own, from the environment to the exit status."""
    denied = subprocess.run(
        [command("entitlements"), "consume", user, "full_distribution"],
        env=os.environ | {"ENTITLEMENTS_ADDRESS": service.address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (denied.returncode, denied.stdout) == (1, "")
    assert "costs 2 tokens" in denied.stderr


def test_a_day_at_the_command_line(run: Run, user: str) -> None:
    """Denied, topped up, charged, replayed, refunded, set, and all of it in the history."""
    denied = run("consume", user, "full_distribution", "--event-id", "final")
    assert (denied.returncode, denied.stdout) == (1, "")
    assert "costs 2 tokens" in denied.stderr
    topped = run("top-up", user, "10", "--reason", "[red]welcome[/]")
    assert (topped.returncode, topped.stderr) == (0, "")
    assert f"{user}: topped up 10, balance 0 → 10" in topped.stdout
    words = ("consume", user, "full_distribution", "--idempotency-key", "k")
    assert "charged 2 for full_distribution, balance 10 → 8" in run(*words).stdout
    assert "Nothing was done now" in run(*words).stdout
    charge = json.loads(run(*words, "--json").stdout)
    assert (charge["amount"], charge["replayed"]) == (-2, True)
    back = run("refund", user, charge["transaction_id"], "--amount", "1", "--reason", "late")
    assert "refunded 1 of" in back.stdout
    assert "balance set, changed by -5" in run("set-balance", user, "4").stdout
    assert "4" in run("balance", user).stdout
    history = run("history", user).stdout
    assert "[red]welcome[/]" in history
    assert [word for word in history.split() if word.isupper() and "_" not in word].count(
        "DENIED"
    ) == 1
    listed = json.loads(run("history", user, "--limit", "3", "--json").stdout)
    assert [each["kind"] for each in listed] == ["ADJUSTMENT", "REFUND", "CONSUME"]
    refunds = json.loads(run("history", user, "--kind", "refund", "--json").stdout)
    assert [each["reason"] for each in refunds] == ["late"]


def test_check_has_three_exit_statuses(run: Run, user: str) -> None:
    """0: allowed, 1: denied, 2: failed; without a feature it only shows the catalogue."""
    assert run("check", user, "headline_pick").returncode == 0
    assert run("check", user, "headline_pick", "full_distribution").returncode == 1
    assert run("check", user, "crystal_ball").returncode == 2
    everything = run("check", user, "--json")
    assert everything.returncode == 0
    assert json.loads(everything.stdout)[1] == {
        "feature": "full_distribution",
        "allowed": False,
        "required": 2,
        "available": 0,
        "access_until": None,
    }


def test_features_shows_the_catalogue(run: Run) -> None:
    """As a table and as JSON."""
    assert "Depth analysis" in run("features").stdout
    assert [each["cost"] for each in json.loads(run("features", "--json").stdout)] == [
        0,
        2,
        3,
        3,
        5,
    ]


def test_a_failure_is_a_sentence_or_json_and_status_2(run: Run, user: str) -> None:
    """What is wrong and what to do, never a traceback."""
    unknown = run("consume", user, "crystal_ball")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "crystal_ball" in unknown.stderr
    as_json = run("refund", user, "nope", "--json")
    assert as_json.returncode == 2
    error = json.loads(as_json.stdout)["error"]
    assert (error["type"], error["reason"]) == (
        "TransactionNotFoundError",
        "TRANSACTION_NOT_FOUND",
    )
    assert run("top-up", user, "0").returncode == 2
    assert run("--address", "nowhere", "features").stderr.startswith("The address must be")


def test_an_unreachable_service_is_reported_with_the_key_to_try_again(
    run: Run, user: str, unused_tcp_port: int
) -> None:
    """Whether it was charged is unknown; under that key it cannot be charged twice."""
    address = f"127.0.0.1:{unused_tcp_port}"
    failed = run("--deadline", "0.2", "top-up", user, "1", ENTITLEMENTS_ADDRESS=address)
    assert failed.returncode == 2
    assert (
        f"The address is {address}, without TLS. To retry safely: --idempotency-key "
        in failed.stderr
    )


def test_a_denial_as_json_has_numbers(run: Run, user: str) -> None:
    """Required and available are tokens, not text."""
    denied = run("consume", user, "full_distribution", "--json")
    assert denied.returncode == 1
    metadata = json.loads(denied.stdout)["error"]["metadata"]
    assert (metadata["required"], metadata["available"]) == (2, 0)


def test_a_token_is_taken_from_the_environment_and_never_shown(run: Run) -> None:
    """Over plain text it goes nowhere but to this machine."""
    assert run("features", ENTITLEMENTS_TOKEN="s3cret").returncode == 0
    refused = run("features", ENTITLEMENTS_TOKEN="s3cret", ENTITLEMENTS_ADDRESS="10.0.0.1:1")
    assert refused.returncode == 2
    assert "must not be sent to 10.0.0.1:1 in plain text" in refused.stderr
    assert "s3cret" not in refused.stderr + run("--help", ENTITLEMENTS_TOKEN="s3cret").stdout


def test_a_history_is_cut_by_time(run: Run, user: str) -> None:
    """From `--since` on, and before `--until`: half open, so that days can be put side by side."""
    for amount in ("1", "2", "3"):
        run("top-up", user, amount)
    listed = json.loads(run("history", user, "--json").stdout)
    newest, middle, oldest = (each["create_time"] for each in listed)

    def amounts(*words: str) -> list[int]:
        found = json.loads(run("history", user, "--json", *words).stdout)
        return [each["amount"] for each in found]

    assert amounts("--since", middle) == [3, 2]
    assert amounts("--until", middle) == [1]
    assert amounts("--since", oldest, "--until", newest) == [2, 1]
    assert amounts("--since", "2999-01-01") == []
    assert amounts("--until", "2001-01-01T00:00Z") == []
    wrong = run("history", user, "--since", "yesterday")
    assert wrong.returncode == 2
    assert "2026-01-31T12:00Z" in wrong.stderr


def test_a_refund_names_its_charge_and_a_transaction_is_shown_whole(run: Run, user: str) -> None:
    """In a column that is there only if there are refunds."""
    run("top-up", user, "5")
    charge = json.loads(run("consume", user, "full_distribution", "--json").stdout)
    assert "refund of" not in run("history", user).stdout
    run("refund", user, charge["transaction_id"], "--reason", "[red]late")
    history = run("history", user).stdout
    assert "refund of" in history
    assert history.count(charge["transaction_id"]) == 2
    shown = run("transaction", user, charge["transaction_id"]).stdout
    assert "catalogue version" in shown
    assert "full_distribution" in shown
    assert json.loads(run("transaction", user, charge["transaction_id"], "--json").stdout) == charge
    assert run("transaction", user, "3-nope").returncode == 2


def test_json_may_stand_before_the_command(run: Run, user: str) -> None:
    """It means the same as after it."""
    before = run("--json", "check", user, "full_distribution")
    after = run("check", user, "full_distribution", "--json")
    assert (before.returncode, before.stdout) == (after.returncode, after.stdout)
    assert json.loads(before.stdout)[0]["required"] == 2


def test_the_version_is_that_of_the_package(run: Run) -> None:
    """Without a service."""
    nowhere = {"ENTITLEMENTS_ADDRESS": "127.0.0.1:1"}
    assert run("--version", **nowhere).stdout == f"entitlements {entitlements.__version__}\n"
    assert entitlements.__version__ == importlib.metadata.version("entitlements")


def test_a_shell_completes_commands_and_options(run: Run) -> None:
    """`entitlements --install-completion` sets it up; the shell then asks like this."""
    asked = {"_ENTITLEMENTS_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert run("his", COMP_WORDS="entitlements his", **asked).stdout.split() == ["history"]
    asked["COMP_CWORD"] = "2"
    words = "entitlements history --si"
    assert run(COMP_WORDS=words, **asked).stdout.split() == ["--since"]


@pytest.mark.parametrize(
    ("environment", "words", "shown"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, (), "topped up 20, balance 0 ? 20"),
        ({"PYTHONIOENCODING": "ascii"}, ("--json",), '"reason": "\\u00e9t\\u00e9"'),
    ],
)
def test_an_encoding_that_lacks_a_character_changes_no_outcome(
    service: ServerProcess,
    user: str,
    environment: dict[str, str],
    words: tuple[str, ...],
    shown: str,
) -> None:
    """For people it is replaced; in JSON it is escaped, so that programs lose nothing."""
    done = subprocess.run(
        [command("entitlements"), "top-up", user, "20", "--reason", "été", *words],
        env=os.environ | {"ENTITLEMENTS_ADDRESS": service.address} | environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout.decode("ascii")


def test_output_that_cannot_be_written_changes_no_outcome(
    service: ServerProcess, user: str
) -> None:
    """A full disk, and a reader that is gone: exit status 1 would say that the user was denied."""
    environment = os.environ | {"ENTITLEMENTS_ADDRESS": service.address}
    words = [command("entitlements"), "top-up", user, "20"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        0,
        "The command was done, and its output could not be written: No space left on device.\n",
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = subprocess.run(
        words, env=environment, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write_end)
    assert (gone.returncode, "Broken pipe" in gone.stderr) == (0, True)


@pytest.mark.parametrize("words", [("history",), ("check",), ("balance",), ("history", "--json")])
def test_what_a_user_is_called_is_never_markup(run: Run, words: tuple[str, ...]) -> None:
    shown = run(words[0], "[/bold]", *words[1:])
    assert (shown.returncode, shown.stderr) == (0, "")
    if "--json" not in words:
        assert "[/bold]" in shown.stdout


def test_markup_in_a_wrong_argument_is_shown_as_it_is(run: Run) -> None:
    wrong = run("balance", "ada", "[/bold]")
    assert wrong.returncode == 2
    assert "[/bold]" in wrong.stderr
