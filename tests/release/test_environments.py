"""The wheel in clean environments: every Python it is for, the base install and each extra."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entitlements import EntitlementClient, __version__
from support.distribution import built
from support.repository import ROOT
from support.server_process import ServerProcess

PYTHONS = ("3.11", "3.12", "3.13") if "EVERY_PYTHON" in os.environ else ("3.11", "3.13")
"""The oldest and the newest; `make versions` tries those between them, too."""

INSTALL_S = 600
"""How long an installation may take, on a machine with a lot else to do."""

CHARGE = """
import sys
from entitlements import EntitlementClient, __version__
with EntitlementClient(sys.argv[1]) as client:
    client.top_up(sys.argv[2], 3)
    charge = client.consume(sys.argv[2], "full_distribution")
print(__version__, charge.balance_after)
"""
LOCAL = """
from entitlements.testing import LocalService
with LocalService(balances={"ada": 3}) as service:
    print(service.client.consume("ada", "full_distribution").balance_after)
"""
EXTRAS = {
    "": ["python -c pass"],
    "cli": [
        "entitlements --version",
        "entitlements --help",
        "entitlements --address HERE balance a",
    ],
    "fastapi": ["python -c 'import entitlements.fastapi'"],
    "server": [
        "entitlements-server --version",
        "entitlements-server --help",
        f"python -c '{LOCAL}'",
    ],
    "server,postgresql": ["python -c 'import entitlements_server.stores.postgresql.store'"],
    "server,redis": ["python -c 'import entitlements_server.stores.redis.store'"],
    "server,otel": ["python -c 'import entitlements_server.instrumentation.tracing'"],
}
"""What has to work with an extra, besides a charge."""

ENVIRONMENTS = [
    (python, extra)
    for python in PYTHONS
    for extra in EXTRAS
    if python == PYTHONS[0] or extra in ("", "server")
]
"""The oldest Python with every extra, the others with what most people install."""


def interpreter(version: str) -> str:
    """The path of a Python; without it the test skips. It can't be installed as programs can."""
    if sys.version.startswith(f"{version}."):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    found = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if found:
        return found
    pytest.skip(f"Python {version} is not installed.")


@pytest.fixture(scope="module")
def service() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.mark.parametrize(("python", "extra"), ENVIRONMENTS)
def test_the_wheel_works_in_a_clean_environment(
    tmp_path: Path, service: ServerProcess, python: str, extra: str
) -> None:
    """It installs, says its version, charges, and does what the extra is for."""
    wheel = built("*.whl")
    venv = tmp_path / "venv"
    subprocess.run([interpreter(python), "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", venv / "bin" / "python"),
            *("install", "--quiet", "--no-compile", "--disable-pip-version-check"),
            *("--constraint", ROOT / "constraints.txt"),
            f"{wheel}[{extra}]" if extra else wheel,
        ],
        check=True,
        timeout=INSTALL_S,
    )

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            words,
            cwd=tmp_path,
            env={"PATH": f"{venv}/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    user = f"{python}-{extra}"
    charged = run("python", "-c", CHARGE, service.address, user)
    assert charged == f"{__version__} 1\n"
    with EntitlementClient(service.address) as client:
        assert client.get_account(user).balance == 1
    for line in EXTRAS[extra]:
        assert run("bash", "-c", line.replace("HERE", service.address)) or line.startswith("python")
