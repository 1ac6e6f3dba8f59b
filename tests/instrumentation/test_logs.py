"""Log lines: one for an event, and never a secret in one."""

import json
import subprocess
import sys

import pytest

from entitlements_server.instrumentation.logs import Throttle, masking

TOKEN = "ent_" + "Ab3-_" * 8
PROGRAM = """
import logging, structlog
from entitlements_server.instrumentation.logs import configure_logs
configure_logs({form!r}, "info", ["hunter2"])
log = structlog.get_logger()
metadata = [("authorization", "Bearer {token}")]
password = "hunter2"
try:
    raise RuntimeError("no luck with redis://user:hunter2@db and Bearer {token}")
except RuntimeError as error:
    log.error("It failed.", exc_info=error, reason="hunter2")
    logging.getLogger("library").warning("It failed: %s", "{token}", exc_info=error)
log.debug("Not this.")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_shows_a_secret_not_even_in_a_traceback(form: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form, token=TOKEN)],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert output.count("RuntimeError") >= 2
    assert "redis://user:***@db" in output
    assert "hunter2" not in output
    assert TOKEN not in output
    assert "Not this." not in output
    if form == "json":
        lines = [json.loads(line) for line in output.splitlines()]
        assert [line["event"][:9] for line in lines] == ["It failed", "It failed"]
        assert all(line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("rediss://u:p%40w@h", "rediss://u:***@h"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        (f"token {TOKEN}.", "token ***."),
        (
            "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n",
            "***\n",
        ),
        ("http://127.0.0.1:9464/metrics", "http://127.0.0.1:9464/metrics"),
    ],
)
def test_what_looks_like_a_credential_is_covered(text: str, covered: str) -> None:
    assert masking()(text) == covered


def test_a_throttle_counts_what_it_keeps_back() -> None:
    now = 0.0
    throttle = Throttle(lines=2, seconds=10, clock=lambda: now)
    assert [throttle.ask("a") for _ in range(5)] == [0, 0, None, None, None]
    assert throttle.ask("b") == 0
    now = 10.0
    assert throttle.ask("a") == 3
    assert throttle.ask("a") == 0
    assert throttle.ask("a") is None
