"""A process that migrates a ledger and kills itself: `python -m faults.migrating FILE CALL BREAK`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from entitlements_server.stores.format import FORMAT, Format
from entitlements_server.stores.sqlite.database import Database, migrations
from entitlements_server.stores.sqlite.file_format import format_of, mark
from faults.disk import Disk, DiskLayer

STEPS = (
    *migrations(),
    """
    ALTER TABLE accounts ADD COLUMN tier TEXT NOT NULL DEFAULT '';
    CREATE TABLE tiers (tier TEXT PRIMARY KEY) STRICT;
    UPDATE accounts SET tier = 'basic';
    INSERT INTO tiers VALUES ('basic');
    """,
    """
    CREATE TABLE ages (account INTEGER PRIMARY KEY, age INTEGER NOT NULL) STRICT;
    INSERT INTO ages SELECT number, stored ->> '4' FROM accounts;
    UPDATE accounts SET tier = 'aged';
    """,
)
"""The product's steps and two that come after them here, of the kinds that later ones will be."""


def migrate(path: Path, disk: Disk) -> None:
    """Bring a ledger to the last of the steps."""
    layer = DiskLayer("migrating", disk)
    path.touch()
    database = Database(path, vfs=layer.vfs_name)
    database.migrate(path, STEPS)
    database.close(checkpoint=True)


def _kill_at(call: int) -> Disk:
    def fails(_call: str, _name: str) -> None:
        if disk.calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    disk = Disk(fail=fails)
    return disk


def _without_transactions() -> None:
    """The control: each statement on its own, and the version in the end."""

    def migrate(self: Any, path: Path, steps: Any) -> None:
        found = format_of(self._connection, path)
        for minor in range(found.minor + 1 if found else 0, len(steps)):
            self._connection.execute(steps[minor])
            mark(self._connection, Format(FORMAT.major, minor))

    Database.migrate = migrate  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    if sys.argv[3:] == ["migration-in-pieces"]:
        _without_transactions()
    migrate(Path(sys.argv[1]), _kill_at(int(sys.argv[2])))
