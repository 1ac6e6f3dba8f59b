"""The guide to testing shows the tests of the example, and they pass."""

import re
import subprocess
import sys

import pytest

from support.repository import DOCS, EXAMPLES

GUIDE = DOCS / "testing.md"
EXAMPLE = EXAMPLES / "my_api"


def test_all_python_of_the_guide_is_that_of_the_example() -> None:
    """Word for word."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    example = "\n".join(file.read_text("utf-8") for file in sorted(EXAMPLE.glob("*.py")))
    for block in blocks:
        for part in block.strip().split("\n\n\n"):
            assert part in example


@pytest.mark.slow
def test_the_tests_of_the_example_pass() -> None:
    """As their reader runs them: in the folder, with its own settings of pytest."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    passed = re.search(r"^(\d+ passed)", run.stdout, re.MULTILINE)
    assert run.returncode == 0, run.stdout
    assert passed
    assert f"\n{passed[1]}\n" in GUIDE.read_text("utf-8")
