"""What `make test` leaves out, as CONTRIBUTING.md says it."""

import re
import subprocess
import sys

import pytest

from support.repository import ROOT


@pytest.fixture(scope="module")
def slow() -> list[str]:
    """The node ids of the slow tests."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-m", "slow"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [line for line in listed.stdout.splitlines() if "::" in line]


@pytest.mark.slow
def test_every_rule_is_shown_quickly_on_memory_and_on_sqlite(slow: list[str]) -> None:
    assert len(slow) > 100
    assert not [one for one in slow if one.startswith(("tests/ledger/", "tests/engine/"))]
    assert not [
        one
        for one in slow
        if re.match(r"tests/stores/test_(contract|properties).*\[(memory|sqlite)", one)
        or re.match(r"tests/api/.*\[completion-queue", one)
    ]
