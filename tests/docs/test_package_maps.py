"""The docstring of a package is its map: it names each module in it, and nothing that is gone."""

import ast
import re
from pathlib import Path

import pytest

from support.repository import ROOT

SOURCES = (ROOT / "client" / "entitlements", ROOT / "server" / "entitlements_server")
GENERATED = SOURCES[0] / "v1"
PACKAGES = [
    file.parent
    for source in SOURCES
    for file in sorted(source.rglob("__init__.py"))
    if GENERATED not in (file.parent, *file.parents)
]


def named(package: Path) -> set[str]:
    """What the docstring names in backticks: `module.py` and `package/`."""
    module = ast.parse((package / "__init__.py").read_text("utf-8"))
    return set(re.findall(r"`(\w+(?:\.py|/))`", ast.get_docstring(module) or ""))


def there(package: Path) -> set[str]:
    """The modules and folders in a package."""
    modules = {file.name for file in package.glob("*.py")} - {"__init__.py"}
    folders = {file.parent.name for file in package.glob("*/*")} - {"__pycache__"}
    return modules | {f"{name}/" for name in folders}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_package_names_each_of_its_modules_and_none_that_is_gone(package: Path) -> None:
    """A module of another package is named with its path, so it doesn't count."""
    missing, gone = there(package) - named(package), named(package) - there(package)
    assert (missing, gone) == (set(), set())
