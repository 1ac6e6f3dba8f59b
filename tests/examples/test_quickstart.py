"""The script of the README, against a real service."""

import subprocess
import sys

from support.repository import EXAMPLES
from support.server_process import ServerProcess

QUICKSTART = EXAMPLES / "quickstart.py"


def test_the_script_does_what_the_readme_says() -> None:
    """Denied, topped up, charged once for two calls, and refunded after a failure."""
    with ServerProcess() as service:
        script = QUICKSTART.read_text().replace("127.0.0.1:50051", service.address)
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
    denied, *others = run.stdout.splitlines()
    assert denied.startswith("denied: The feature 'full_distribution' costs 2 tokens")
    assert others == [
        "topped up: 10",
        "charged: 8",
        "retried: 8",
        "charged again: 6",
        "refunded: 8",
    ]
    assert run.stderr == ""
