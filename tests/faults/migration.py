"""A migration that is killed at a random point: each step is there whole, or not at all.

A child process migrates a ledger of an older version and gets SIGKILL at one of its I/O calls. Then
the ledger has to be at one of the versions exactly, and a second try has to bring it to the last.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import apsw

from entitlements_server.engine.engine import Engine
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import TopUp
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite.file_format import format_of
from faults.disk import Disk
from faults.figures import Advance, Report, silent
from faults.migrating import STEPS, migrate
from support.repository import TESTS

ACCOUNTS = 300
TABLES = {
    "commit_log",
    "accounts",
    "transactions",
    "idempotency_keys",
    "refunds",
    "due_times",
    "changes",
    "identity",
}


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Kill `size` migrations, a third of them of a file that does not exist yet."""
    report = Report()
    random = Random(seed)
    stopped = 0
    with tempfile.TemporaryDirectory() as root:
        old = Path(root) / "old.sqlite"
        asyncio.run(_fill(old))
        calls = {True: _calls(None, Path(root)), False: _calls(old, Path(root))}
        for number in range(size):
            path = Path(root) / f"{number}.sqlite"
            fresh = number % 3 == 2
            if not fresh:
                shutil.copy(old, path)
            killed = _migrate_and_kill(path, random.randrange(1, calls[fresh] + 1), breaking)
            stopped += killed
            if path.exists():
                report.problems += [f"kill {number}: {one}" for one in _problems(path, fresh=fresh)]
            advance(1)
            if breaking and report.problems:
                break
    report.note("migrations killed", stopped, "100")
    report.note("left incomplete", len(report.problems), "0")
    return report


async def _fill(path: Path) -> None:
    store = await SqliteStore.open(path)
    engine = Engine(store, lambda: BUILT_IN)
    await engine.submit([TopUp(user_id=f"user-{one}", amount=5) for one in range(ACCOUNTS)])
    await store.close()


def _calls(old: Path | None, root: Path) -> int:
    """How many I/O calls a whole migration takes."""
    path = root / f"whole-{old is None}.sqlite"
    if old is not None:
        shutil.copy(old, path)
    disk = Disk()
    migrate(path, disk)
    return disk.calls


def _migrate_and_kill(path: Path, call: int, breaking: str) -> bool:
    child = subprocess.run(
        [sys.executable, "-m", "faults.migrating", str(path), str(call), breaking],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
        timeout=60,
    )
    return child.returncode == -signal.SIGKILL


def _problems(path: Path, *, fresh: bool) -> list[str]:
    found = []
    with apsw.Connection(str(path)) as connection:
        version = _steps_done(connection, path)
        if problem := _difference(connection, version, fresh=fresh):
            found.append(f"version {version} is half done: {problem}")
    connection.close()
    try:
        migrate(path, Disk())
    except apsw.Error as error:
        return [*found, f"the second try fails: {error}"]
    with apsw.Connection(str(path)) as connection:
        if problem := _difference(connection, len(STEPS), fresh=fresh):
            found.append(f"the second try is half done: {problem}")
    connection.close()
    return found


def _steps_done(connection: apsw.Connection, path: Path) -> int:
    found = format_of(connection, path)
    return found.minor + 1 if found else 0


def _difference(connection: apsw.Connection, version: int, *, fresh: bool) -> str:
    """What is not as it should be at a version."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").get
    tables = set([names] if isinstance(names, str) else names or ())
    tables = {name for name in tables if not name.startswith("sqlite_")}
    base = len(STEPS) - 2
    expected = set(TABLES) if version else set()
    expected |= {"tiers"} if version > base else set()
    expected |= {"ages"} if version > base + 1 else set()
    if tables != expected:
        return f"tables {sorted(tables ^ expected)}"
    if fresh or not version:
        return ""
    accounts = connection.execute("SELECT count(*), sum(stored ->> '2') FROM accounts").get
    if accounts != (ACCOUNTS, 5 * ACCOUNTS):
        return f"accounts and tokens {accounts}"
    if version <= base:
        return ""
    tiers = connection.execute("SELECT group_concat(DISTINCT tier) FROM accounts").get
    return "" if tiers == ("aged" if version > base + 1 else "basic") else f"tiers {tiers}"
