"""Recovery after a failed sync, which leaves a log that can be read but is not on disk.

After a failed sync Linux treats the pages as written: they can be read and a later sync succeeds, but
the disk does not have them. SQLite would trust such a log and copy it into the main file, and a power
loss in between would leave neither. So the log is written again with the same bytes before SQLite
reads it. See https://wiki.postgresql.org/wiki/Fsync_Errors.
"""

import os
from pathlib import Path

_CHUNK_BYTES = 1024 * 1024


def rewrite_wal(database: Path) -> None:
    """Overwrite the logs of a database file with their own contents, and sync them.

    The database must not be open.

    Raises:
        OSError: The disk is failing. The logs are unchanged.
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
