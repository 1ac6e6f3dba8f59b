"""The examples for other languages: their stubs are generated, and they run against the real service."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.programs import tool
from support.repository import DOCS, EXAMPLES, ROOT
from support.server_process import ServerProcess

GUIDE = DOCS / "other-languages.md"
SHOWN = {
    "go": EXAMPLES / "go" / "main.go",
    "ts": EXAMPLES / "typescript" / "main.ts",
    "java": EXAMPLES / "java" / "src" / "main" / "java" / "Main.java",
}


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """The packages of the TypeScript example, buf among them, beside it."""
    npm, folder = tool("npm"), EXAMPLES / "typescript"
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with lock.open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    return folder / "node_modules"


def run(*words: str | Path, cwd: Path, path: Path | None = None) -> str:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def transcript(language: str) -> str:
    """What the guide says that a program prints."""
    found = re.search(rf"<!-- {language} -->\n```\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_go_example(server: ServerProcess, node_modules: Path, tmp_path: Path) -> None:
    """Generated with the plugins that its module names."""
    go, folder = tool("go"), tmp_path / "go"
    shutil.copytree(EXAMPLES / "go", folder, ignore=shutil.ignore_patterns("gen"))
    plugins = folder / "plugins"
    run(go, "build", "-mod=readonly", "-o", f"{plugins}/", "tool", cwd=folder)
    buf = node_modules / ".bin" / "buf"
    run(buf, "generate", "--output", folder, cwd=ROOT / "protos", path=plugins)
    assert run(go, "run", "-mod=readonly", ".", server.address, cwd=folder) == transcript("go")


def test_the_typescript_example(server: ServerProcess, node_modules: Path, tmp_path: Path) -> None:
    folder, programs = tmp_path / "typescript", node_modules / ".bin"
    own = shutil.ignore_patterns("gen", "build", "node_modules")
    shutil.copytree(EXAMPLES / "typescript", folder, ignore=own)
    (folder / "node_modules").symlink_to(node_modules)
    template = ("--template", "buf.gen.ts.yaml")
    run(
        *(programs / "buf", "generate", *template, "--output", folder),
        cwd=ROOT / "protos",
        path=programs,
    )
    run(programs / "tsc", cwd=folder)
    printed = run(tool("node"), "build/main.js", server.address, cwd=folder)
    assert printed == transcript("ts")


@pytest.mark.parametrize("language", SHOWN)
def test_the_guide_shows_the_programs_as_they_are(language: str) -> None:
    assert SHOWN[language].read_text() in GUIDE.read_text()
