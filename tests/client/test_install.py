"""The base install, in a fresh virtual environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.once import once
from support.repository import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has `pip install .` and nothing else."""

    def install(home: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run(
            [
                *(home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--constraint", ROOT / "constraints.txt", ROOT),
            ],
            check=True,
        )

    return once(tmp_path_factory, "base-install", install) / "bin"


def test_the_base_install_pulls_in_three_packages(binaries: Path) -> None:
    """And what gRPC itself needs."""
    listed = subprocess.run(
        [binaries / "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
    )
    names = {each["name"] for each in json.loads(listed.stdout)} - {"pip", "setuptools"}
    assert names == {
        "entitlements",
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
        "typing_extensions",
    }


def test_the_client_works_without_any_extra(binaries: Path) -> None:
    """It imports, opens a channel and fails as it should."""
    script = (
        "from entitlements import EntitlementClient, ServiceUnavailableError\n"
        "try: EntitlementClient('127.0.0.1:1', deadline_s=0.1).list_features()\n"
        "except ServiceUnavailableError: print('not there')\n"
    )
    run = subprocess.run(
        [binaries / "python", "-c", script], check=True, capture_output=True, text=True
    )
    assert run.stdout == "not there\n"


@pytest.mark.parametrize(
    ("words", "extra"),
    [(["entitlements"], "cli"), (["python", "-c", "import entitlements.fastapi"], "fastapi")],
)
def test_a_missing_extra_says_what_to_install(binaries: Path, words: list[str], extra: str) -> None:
    """In one line."""
    run = subprocess.run(
        [binaries / words[0], *words[1:]], check=False, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert f"with the extra '{extra}'" in run.stderr.splitlines()[-1]
