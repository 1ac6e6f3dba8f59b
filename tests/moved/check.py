"""Show that no test was lost when they were sorted into folders: `python tests/moved/check.py`.

`603e5e9.txt` has every case that there was at that commit. `moves.toml` says what has another name
today, and what went and why. Everything else must still be there under its name. The exit status is
1 if a case is missing, or if `moves.toml` speaks of one that never was.
"""

import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def cases_then() -> Iterator[str]:
    """The node ids at the commit."""
    file = test = ""
    variants = 0
    for line in [*(HERE / "603e5e9.txt").read_text("utf-8").splitlines(), "end"]:
        if line.startswith("  "):
            variants += 1
            yield f"{file}::{test}{line[2:]}"
            continue
        if test and not variants:
            yield f"{file}::{test}"
        file, test = (file, line[1:]) if line.startswith(" ") else (line, "")
        variants = 0


def cases_now() -> set[str]:
    """The node ids of the tests that there are."""
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet"],
        cwd=HERE.parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    return {line for line in listed.stdout.splitlines() if "::" in line}


class Moves:
    """What `moves.toml` says, applied to one case after another."""

    def __init__(self, moves: dict[str, Any]) -> None:
        self._moves = moves
        self._used: set[str] = set()

    def now(self, case: str) -> str | None:
        """The name that a case has today; None: it went on purpose."""
        file, _, test = case.partition("::")
        name, bracket, variant = test.partition("[")
        for gone in (case, f"{file}::{name}"):
            if gone in self._moves["gone"]:
                self._used.add(gone)
                return None
        if renamed := self._look("cases", case):
            return renamed
        for old, new in self._moves["variants"].items():
            variant = re.sub(rf"(?<![\w-]){old}(?=[-\]])", new, variant)
        if renamed := self._look("tests", f"{file}::{name}"):
            return renamed + bracket + variant
        return f"{self._look('files', file) or file}::{name}{bracket}{variant}"

    def unused(self) -> list[str]:
        """What it says of cases that never were."""
        tables = ("files", "tests", "cases", "gone")
        return [one for table in tables for one in self._moves[table] if one not in self._used]

    def _look(self, table: str, old: str) -> str:
        if found := self._moves[table].get(old, ""):
            self._used.add(old)
        return str(found)


def main() -> int:
    """Compare, and print what is missing."""
    moves = Moves(tomllib.loads((HERE / "moves.toml").read_text("utf-8")))
    then, now = list(cases_then()), cases_now()
    names = [moves.now(case) for case in then]
    kept = {name for name in names if name}
    gone = names.count(None)
    missing = Counter(name.partition("[")[0] for name in kept - now)
    wrong = [f"missing: {count} of {test}" for test, count in sorted(missing.items())]
    wrong += [f"never was: {name}" for name in moves.unused()]
    if len(kept) + gone < len(then):
        wrong.append("two cases have become one")
    print(  # noqa: T201  # this is what it is for
        *wrong,
        f"{len(then)} cases then: {len(kept & now)} are there, {gone} went on purpose.",
        f"{len(now)} cases now: {len(now - kept)} are new.",
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
