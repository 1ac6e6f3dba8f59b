"""A guide as steps that can be run: its files, its commands, and the servers in their own terminal."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<kind>console|python|toml)\n(?P<text>.*?)```", re.DOTALL
)
_CHANGING = (
    (re.compile(r"\b(\d+)-[0-9a-f]{20}\b"), r"\1-…"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "(time)"),
    (re.compile(r"in \d+\.\d+s\b"), "in (time)"),
)
_END = "@end@"


@dataclass(frozen=True, slots=True)
class Step:
    """One command with the output that the guide shows, or a file.

    Attributes:
        mark: What the comment before the block says, such as `server` or `file NAME`.
        text: The command, or the content of the file.
        shown: The output.
    """

    mark: str
    text: str
    shown: str = ""


def steps(guide: Path) -> list[Step]:
    """Read the steps of a guide, in order."""
    found = []
    for block in _BLOCK.finditer(guide.read_text("utf-8")):
        mark, text = block["mark"] or "", block["text"]
        if block["kind"] != "console":
            found.append(Step(mark, text))
            continue
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            # A line that begins with "> " goes on with the command.
            lines = part.splitlines()
            more = next(
                (i for i, line in enumerate(lines[1:], 1) if not line.startswith(">")), len(lines)
            )
            command = [lines[0], *(line[2:] for line in lines[1:more])]
            found.append(Step(mark, "\n".join(command), "\n".join(lines[more:])))
    return found


def comparable(text: str) -> str:
    """What must be the same in two outputs: not times, ids, or spaces where nobody sees them."""
    for pattern, instead in _CHANGING:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Terminal:
    """A shell in a folder of its own, with a home of its own.

    Args:
        folder: Where it works.
        port: What stands for the port 50051 of the guide.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._port = str(port)
        self._home = folder / "home"
        self._home.mkdir()
        self._work = folder / "work"
        self._work.mkdir()
        binaries = Path(sys.executable).parent
        self.environment = {
            **{name: value for name, value in os.environ.items() if "ENTITLEMENTS" not in name},
            "HOME": str(self._home),
            "PATH": f"{binaries}:{os.environ['PATH']}",
            # The guide uses the default port; here it may be taken.
            "ENTITLEMENTS_LISTEN": f"127.0.0.1:{port}",
            "ENTITLEMENTS_ADDRESS": f"127.0.0.1:{port}",
            "PYTHONUNBUFFERED": "1",
            # The environment of the guide has no other plugins than those that it names.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self.environment.pop("XDG_DATA_HOME", None)
        self._shell = self._popen("bash")

    def write(self, name: str, content: str) -> None:
        """Make a file."""
        (self._work / name).write_text(self._here(content), "utf-8")

    def run(self, command: str) -> str:
        """Run a command to its end, and return what it prints, as the guide would have it."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{self._here(command)}\necho {_END}\n")
        self._shell.stdin.flush()
        lines = iter(self._shell.stdout.readline, "")
        printed = []
        for line in lines:
            if line.endswith(f"{_END}\n"):
                printed.append(line.removesuffix(f"{_END}\n"))
                break
            printed.append(line)
        return self._there("".join(printed))

    def serve(self, command: str, lines: int) -> tuple["subprocess.Popen[str]", str]:
        """Start a server in a terminal of its own; return it, and the first lines of its output."""
        server = self._popen(*self._here(command).split())
        assert server.stdout is not None
        printed = []
        for line in server.stdout:
            # Its log goes to the same terminal.
            if not re.match(r"\d{4}-\d\d-", line):
                printed.append(line)
            if line.startswith("Try: "):
                break
        return server, self._there("".join(printed[:lines]))

    def close(self) -> None:
        """Close the shell."""
        self._shell.communicate()

    def _popen(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            words,
            cwd=self._work,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _here(self, text: str) -> str:
        return text.replace("50051", self._port)

    def _there(self, text: str) -> str:
        return text.replace(self._port, "50051").replace(str(self._home), "/home/you")
