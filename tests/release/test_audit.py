"""The audit of dependencies: fails for what is known, and not because nobody answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.repository import ROOT

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BROKEN = {
    "name": "broken",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}],
}
AUDITOR = """#!{python}
import sys
from pathlib import Path
words = dict(zip(sys.argv, sys.argv[1:]))
answer = {answers}.get(words["--vulnerability-service"])
if answer is None:
    sys.exit(1)
Path(words["--output"]).write_text(answer)
"""


def audit(folder: Path, answers: dict[str, list[Any]], **environment: str) -> tuple[int, str]:
    """The exit status and output, where the databases answer so."""
    auditor = folder / "pip-audit"
    texts = {name: json.dumps({"dependencies": found}) for name, found in answers.items()}
    auditor.write_text(AUDITOR.format(python=sys.executable, answers=texts))
    auditor.chmod(0o755)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit"],
        env={**os.environ, "PIP_AUDIT": str(auditor), "AUDIT": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("database", ["osv", "pypi"])
def test_a_known_vulnerability_fails_whichever_database_knows_it(
    tmp_path: Path, database: str
) -> None:
    status, output = audit(tmp_path, {database: [SOUND, BROKEN, UNKNOWN]})
    assert status == 1
    assert "broken 1.0: PYSEC-1, mended in 1.1" in output
    assert "unknown was not audited" in output


def test_packages_that_nothing_is_known_of_pass(tmp_path: Path) -> None:
    status, output = audit(tmp_path, {"osv": [SOUND]})
    assert (status, output) == (0, "Audit: 1 packages, 0 known vulnerabilities.\n")


@pytest.mark.parametrize("answers", [{}, {"pypi": [UNKNOWN, UNKNOWN]}])
def test_without_an_answer_it_is_skipped_with_the_reason(
    tmp_path: Path, answers: dict[str, list[Any]]
) -> None:
    """And it does not say that nothing was found."""
    status, output = audit(tmp_path, answers)
    assert status == 0
    assert "Audit skipped" in output
    assert "osv: it cannot be reached" in output
    assert "known vulnerabilities" not in output


def test_without_an_answer_it_fails_where_one_is_required(tmp_path: Path) -> None:
    assert audit(tmp_path, {}, AUDIT="required")[0] == 1


def test_without_pip_audit_it_is_skipped(tmp_path: Path) -> None:
    status, output = audit(tmp_path, {}, PIP_AUDIT=str(tmp_path / "nowhere"))
    assert status == 0
    assert "pip-audit is not installed" in output
