"""What a failed sync leaves behind: a log that reads well and is not on the disk.

After a failed sync Linux counts the pages as written: they can be read, a later sync succeeds, and
the disk still does not have them. SQLite would trust such a log, copy it into the main file piece by
piece, and a power loss in between would leave neither. So it is written again, with the same bytes,
before SQLite looks at it. See https://wiki.postgresql.org/wiki/Fsync_Errors.
"""

import os
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024


def rewrite_wal(database: Path) -> None:
    """Overwrite the logs of a database file with what they hold, and sync them.

    Nobody may have the database open.

    Raises:
        OSError: The disk is failing. The logs are as they were.
    """
    for suffix in ("-wal", "-journal"):
        log = database.with_name(database.name + suffix)
        if log.exists():
            _write_over(log)


def _write_over(log: Path) -> None:
    file = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    try:
        offset = 0
        while chunk := os.pread(file, _CHUNK_BYTES, offset):
            offset += os.pwrite(file, chunk, offset)
        os.fsync(file)
    finally:
        os.close(file)
