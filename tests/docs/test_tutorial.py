"""The tutorial, from its first command to its last: each prints what the tutorial shows."""

import subprocess
from pathlib import Path

import pytest

from support.programs import tool
from support.repository import DOCS
from support.walkthrough import Terminal, comparable, steps

TUTORIAL = DOCS / "tutorial.md"

pytestmark = pytest.mark.slow


def walk(folder: Path, port: int) -> list[tuple[str, str, str]]:
    """Do what the tutorial says; return each command, what it shows, and what it printed.

    Only the installation is left out: tests/release installs the package.
    """
    terminal = Terminal(folder, port)
    server: subprocess.Popen[str] | None = None
    seen = []
    try:
        for step in steps(TUTORIAL):
            if step.mark == "install":
                continue
            if step.mark.startswith("file "):
                terminal.write(step.mark.removeprefix("file "), step.text)
                continue
            if step.mark == "server":
                stop(server)
                server, printed = terminal.serve(step.text, len(step.shown.splitlines()))
            else:
                printed = terminal.run(step.text)
            seen.append((step.text, step.shown, printed))
    finally:
        terminal.close()
        stop(server)
    return seen


def stop(server: "subprocess.Popen[str] | None") -> None:
    if server is not None:
        server.terminate()
        server.communicate()


def test_every_command_prints_what_the_tutorial_shows(tmp_path: Path, unused_tcp_port: int) -> None:
    """Times, tokens and ids apart."""
    tool("openssl")
    seen = walk(tmp_path, unused_tcp_port)
    assert len(seen) > 20
    for command, shown, printed in seen:
        assert comparable(printed) == comparable(shown), command
