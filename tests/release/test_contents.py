"""What is in the wheel and the sdist: what belongs there, and nothing else."""

import subprocess
import tarfile
import zipfile

from entitlements import __version__
from support.distribution import built
from support.repository import ROOT


def tracked(*folders: str) -> set[str]:
    """The files of the repository in these folders, or these files."""
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def test_the_wheel_has_both_packages_and_nothing_else() -> None:
    """Every tracked file of theirs, the SQL and Lua files included; no tests, no docs."""
    packages = {
        name.removeprefix("client/").removeprefix("server/")
        for name in tracked("client/entitlements", "server/entitlements_server")
    }
    info = f"entitlements-{__version__}.dist-info"
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    with zipfile.ZipFile(built("*.whl")) as wheel:
        assert set(wheel.namelist()) == packages | {f"{info}/{name}" for name in about}


def test_the_sdist_has_what_the_wheel_is_built_from_and_the_contract() -> None:
    """And what a reader of it looks for first."""
    expected = tracked("client", "server", "protos/entitlements", "pyproject.toml", ".gitignore")
    expected |= {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md"}
    with tarfile.open(built("*.tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names == expected


def test_the_extras_are_for_users_and_the_groups_for_developers() -> None:
    """Nobody who installs the package is offered the tools of those who make it."""
    with zipfile.ZipFile(built("*.whl")) as wheel:
        metadata = wheel.read(f"entitlements-{__version__}.dist-info/METADATA").decode()
    extras = {line.split()[1] for line in metadata.splitlines() if "Provides-Extra" in line}
    assert extras >= {"cli", "fastapi", "otel", "postgresql", "redis", "server"}
    assert not extras & {"dev", "example", "release"}
