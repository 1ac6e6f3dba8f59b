"""The guides with a session, from the first command to the last: each prints what the guide shows."""

import subprocess
from pathlib import Path

import pytest

from support.programs import tool
from support.repository import DOCS
from support.walkthrough import Terminal, comparable, steps

GUIDES = {"tutorial.md": 20, "expiring-tokens.md": 9, "pay-once.md": 8}
"""With how many commands there are at least."""

pytestmark = pytest.mark.slow


def walk(guide: Path, folder: Path, port: int) -> list[tuple[str, str, str]]:
    """Do what a guide says; return each command, what it shows, and what it printed.

    Only the installation is left out: tests/release installs the package.
    """
    terminal = Terminal(folder, port)
    server: subprocess.Popen[str] | None = None
    seen = []
    try:
        for step in steps(guide):
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


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_prints_what_the_guide_shows(
    guide: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    """Times, tokens and ids apart."""
    tool("openssl")
    seen = walk(DOCS / guide, tmp_path, unused_tcp_port)
    assert len(seen) > GUIDES[guide]
    for command, shown, printed in seen:
        assert comparable(printed) == comparable(shown), command
