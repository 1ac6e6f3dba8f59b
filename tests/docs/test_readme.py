"""What the README shows is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

from support.programs import tool
from support.repository import EXAMPLES, ROOT
from support.server_process import ServerProcess

README = ROOT / "README.md"
QUICKSTART = EXAMPLES / "quickstart.py"
CHANGING = re.compile(r"\b(\d+-)[0-9a-f]{20}\b|\d{4}-\d\d-\d\dT[\d:.]+Z")


def session() -> list[tuple[str, str]]:
    """The commands of the grpcurl session, each with the output shown under it."""
    block = re.search(r"<!-- session -->\n```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    steps = re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]
    return [(step.partition("\n")[0], step.partition("\n")[2].strip()) for step in steps]


def test_the_grpcurl_session_gives_what_the_readme_shows() -> None:
    """Only times and the digests of transaction ids may differ."""
    path = f"{Path(tool('grpcurl')).parent}:{os.environ['PATH']}"
    steps = session()
    assert len(steps) > 5
    with ServerProcess() as server:
        # In any order: the script uses another user.
        quickstart = QUICKSTART.read_text().replace("127.0.0.1:50051", server.address)
        subprocess.run([sys.executable, "-c", quickstart], check=True, capture_output=True)
        script = "\n".join(f"{command}\necho @end@" for command, _ in steps)
        run = subprocess.run(
            ["bash", "-c", script.replace("127.0.0.1:50051", server.address)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=True,
            env={**os.environ, "PATH": path},
        )
    outputs = run.stdout.split("@end@\n")
    for (command, shown), output in zip(steps, outputs, strict=False):
        assert CHANGING.sub(r"\1", output.strip()) == CHANGING.sub(r"\1", shown), command
