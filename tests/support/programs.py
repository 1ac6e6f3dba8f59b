"""Programs that tests run: those of this project, and tools that have to be there in CI."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def command(name: str) -> str:
    """The path of a command that this project installs."""
    return str(Path(sys.executable).with_name(name))


def tool(name: str) -> str:
    """The path of another program; without it the test skips, and in CI it fails."""
    found = shutil.which(name) or shutil.which(name, path=str(Path.home() / "go/bin"))
    if found:
        return found
    problem = f"{name} is not installed; CONTRIBUTING.md, 'Tools', says more"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
