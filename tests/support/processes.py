"""The server as a process of its own, and tools that have to be there in CI."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

START_SECONDS = 30
"""How long a server may take to say where it listens, before the test gives up."""


class ServerProcess:
    """`entitlements-server serve` on a free port of loopback."""

    def __init__(self, *options: str, listen: str = "127.0.0.1:0") -> None:
        self.process = subprocess.Popen(
            [command("entitlements-server"), "serve", "--listen", listen, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.output = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if found := re.match(r"Listening on (\S+)", line):
                self.address = found[1]
            if line.startswith("Try: "):
                return
        self.process.wait(START_SECONDS)
        raise AssertionError(f"The server did not start: {self.output}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL; nothing is finished and nothing is said."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> int:
        """SIGTERM; returns the exit status, and `output` is complete."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=60)
        self.output += rest
        return self.process.returncode


def command(name: str) -> str:
    """The path of a command that this project installs."""
    return str(Path(sys.executable).with_name(name))


def tool(name: str) -> str:
    """The path of another program; without it the test skips, and in CI it fails."""
    found = shutil.which(name) or shutil.which(name, path=str(Path.home() / "go/bin"))
    if found:
        return found
    problem = f"{name} is not installed; README.md, 'Developing', says how to get it"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)
