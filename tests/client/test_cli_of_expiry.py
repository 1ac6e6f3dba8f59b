"""The command line, where tokens expire and events are paid for once."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from entitlements.testing import LocalService
from support.command_line import Run, runner

FULL = "full_distribution"  # 2 tokens
WINDOW = timedelta(hours=48)


@pytest.fixture
def local() -> Iterator[LocalService]:
    with LocalService(access={FULL: WINDOW}) as service:
        yield service


@pytest.fixture
def run(
    local: LocalService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return runner(local.address, monkeypatch, capsys)


def test_an_account_says_what_expires_when(run: Run, local: LocalService) -> None:
    """The next in a sentence, all of them in a table, and what can be spent if that is less."""
    assert "expire" not in run("top-up", "ada", "5").stdout
    assert "expire" not in run("balance", "ada").stdout
    topped = run("top-up", "ada", "12", "--lifetime", "3d")
    (grant,) = local.client.get_account("ada").grants
    on = f"{grant.expire_time:%Y-%m-%d %H:%M:%S} UTC"
    assert f" They expire on {on}." in topped.stdout
    shown = run("balance", "ada").stdout
    assert f"12 expire in 3 days, on {on}.\n" in shown
    assert "Tokens that expire" not in shown
    run("top-up", "ada", "1", "--lifetime", "PT36H")
    shown = run("balance", "ada").stdout
    assert "1 expires in 1 day, on " in shown
    assert shown.count("in 3 days") == 1
    assert "available" not in shown
    local.clock.advance(timedelta(days=3))  # That is recorded in a minute.
    shown = run("balance", "ada").stdout
    assert "available" in shown
    assert "expire" not in shown


def test_a_top_up_may_expire_at_a_time(run: Run) -> None:
    topped = json.loads(
        run("top-up", "ada", "5", "--expire-time", "2200-01-31T12:00Z", "--json").stdout
    )
    assert topped["expire_time"] == "2200-01-31T12:00:00+00:00"
    assert topped["draws"][0]["expire_time"] == topped["expire_time"]
    assert json.loads(run("top-up", "ada", "5", "--lifetime", "1w", "--json").stdout)[
        "lifetime"
    ] == ("604800s")
    both = run("top-up", "ada", "5", "--lifetime", "1d", "--expire-time", "2200-01-31")
    assert (both.returncode, "not both" in both.stderr) == (2, True)
    past = run("top-up", "ada", "5", "--expire-time", "1990-01-31")
    assert (past.returncode, "expire_time" in past.stderr) == (2, True)


@pytest.mark.parametrize("period", ["soon", "3", "P", "P1M", "-1d", "1.5d", "99999999999d"])
def test_what_is_no_period_is_told(run: Run, period: str) -> None:
    """A month has no length of its own."""
    wrong = run("top-up", "ada", "5", "--lifetime", period)
    assert (wrong.returncode, "P1DT12H" in wrong.stderr) == (2, True)


def test_a_history_shows_expiry_draws_uses_and_labels(run: Run, local: LocalService) -> None:
    """In columns that are there only if something is in them."""
    run("top-up", "ada", "9")
    plain = run("history", "ada").stdout
    for column in ("uses", "tokens that expire", "paid until", "labels"):
        assert column not in plain
    run("top-up", "ada", "3", "--lifetime", "1d", "--label", "plan=pro", "--label", "by=[red]me")
    run("consume", "ada", "comparative_analysis", "--quantity", "2", "--label", "page=1")
    run("top-up", "ada", "4", "--lifetime", "1d")
    local.clock.advance(timedelta(days=2))
    run("consume", "ada", FULL, "--event-id", "final")
    shown = run("history", "ada").stdout
    for text in ("EXPIRE", "uses", "tokens that expire", "paid until", "labels"):
        assert text in shown
    as_json = json.loads(run("history", "ada", "--json").stdout)
    window, expired, _, charge, granted, _ = as_json
    assert (expired["kind"], expired["amount"], expired["draws"][0]["amount"]) == ("EXPIRE", -4, 4)
    assert [draw["amount"] for draw in charge["draws"]] == [3, 3]
    assert (charge["quantity"], charge["labels"]) == (2, {"page": "1"})
    assert granted["labels"] == {"plan": "pro", "by": "[red]me"}
    assert window["access_until"]
    only = json.loads(run("history", "ada", "--kind", "expire", "--json").stdout)
    assert only == [expired]
    details = run("transaction", "ada", charge["transaction_id"]).stdout
    assert "3 until 2" in details
    assert "3 others" in details
    details = run("transaction", "ada", granted["transaction_id"]).stdout
    assert "1 day" in details
    assert "by=[red]me, plan=pro" in details


def test_an_event_that_is_paid_for_costs_nothing(run: Run, local: LocalService) -> None:
    words = ("consume", "ada", FULL, "--event-id", "final")
    run("top-up", "ada", "2")
    assert "The event final is paid until 2" in run(*words).stdout
    again = run(*words)
    assert again.returncode == 0
    assert "nothing was charged for full_distribution: the event final is paid until 2" in (
        again.stdout
    )
    assert json.loads(run(*words, "--json").stdout)["covered"] is True
    checked = run("check", "ada", FULL, "--event-id", "final")
    assert (checked.returncode, "paid until" in checked.stdout) == (0, True)
    assert run("check", "ada", FULL).returncode == 1
    assert "2 days" in run("features").stdout
    assert json.loads(run("features", "--json").stdout)[1]["access"] == "172800s"


def test_a_key_whose_access_has_ended_is_a_failure(run: Run, local: LocalService) -> None:
    words = ("consume", "ada", FULL, "--event-id", "final", "--idempotency-key", "k")
    run("top-up", "ada", "4")
    run(*words)
    local.clock.advance(timedelta(days=90))
    ended = run(*words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "has ended on 2" in ended.stderr
    assert json.loads(run(*words, "--json").stdout)["error"]["type"] == "AccessEndedError"


def test_a_price_above_the_accepted_one_is_a_failure_with_numbers(run: Run) -> None:
    run("top-up", "ada", "9")
    words = ("consume", "ada", "comparative_analysis", "--quantity", "2", "--max-cost", "5")
    dear = run(*words)
    assert (dear.returncode, dear.stdout) == (2, "")
    error = json.loads(run(*words, "--json").stdout)["error"]
    assert (error["reason"], error["metadata"]["cost"], error["metadata"]["max_cost"]) == (
        "PRICE_CHANGED",
        6,
        5,
    )
    assert "charged 6 for comparative_analysis, 2 uses" in run(*words[:-1], "6").stdout


def test_a_replay_says_what_was_refunded(run: Run) -> None:
    words = ("consume", "ada", "comparative_analysis", "--idempotency-key", "k")
    run("top-up", "ada", "9")
    charge = json.loads(run(*words, "--json").stdout)
    run("refund", "ada", charge["transaction_id"], "--amount", "1")
    assert "Refunded since: 1." in run(*words).stdout


@pytest.mark.parametrize("labels", [("plan",), ("a=1", "a=2")])
def test_what_is_no_label_is_told(run: Run, labels: tuple[str, ...]) -> None:
    words = [word for label in labels for word in ("--label", label)]
    wrong = run("top-up", "ada", "1", *words)
    assert (wrong.returncode, "KEY=VALUE" in wrong.stderr) == (2, True)


def test_a_shell_completes_the_new_options_and_kinds(run: Run) -> None:
    asked = {"_ENTITLEMENTS_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert run(COMP_WORDS="entitlements top-up --li", **asked).stdout.split() == ["--lifetime"]
    asked["COMP_CWORD"] = "3"
    words = "entitlements history --kind EX"
    assert run(COMP_WORDS=words, **asked).stdout.split() == ["EXPIRE"]
