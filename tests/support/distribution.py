"""The wheel and the sdist that `make dist` has built."""

import os
from pathlib import Path

import pytest

from support.repository import ROOT


def built(pattern: str) -> Path:
    """The file in dist/; without it the test skips, and in CI it fails."""
    found = sorted((ROOT / "dist").glob(pattern))
    if len(found) == 1:
        return found[0]
    problem = f"dist/ has {len(found)} files {pattern}; `make dist` builds one"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
