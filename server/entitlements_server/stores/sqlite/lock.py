"""One process per ledger, whatever the file is called: the lock is on the file itself."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from entitlements_server.stores.interface import (
    StoreConfigurationError,
    StoreInUseError,
    StoreUnavailableError,
)
from entitlements_server.stores.sqlite.companions import (
    RESTORING,
    WAL,
    beside,
    size_of,
    traces,
)
from entitlements_server.stores.sqlite.mounts import NETWORK_TYPES, mount_of

LOCKS = Path("/proc/locks")
"""Linux's table of locks: which process holds which file."""

_Inode = tuple[int, int]
_held: set[_Inode] = set()
"""The files that this process has locked. None of them may be opened here and closed again: that
would drop SQLite's own locks on it, which belong to the process and not to the descriptor."""


class FileLock:
    """An exclusive lock on a ledger file. The kernel drops it when the process dies.

    It is `flock`, which SQLite does not use. Release it after SQLite has closed the file.

    Args:
        database: The file, absolute and without symbolic links.
        create: Make an empty file, readable by its owner only, if there is none.
        restoring: For a restore, which holds the mark and moves what lies beside the file.

    Attributes:
        is_new: Whether the file was empty: a ledger is about to be made.

    Raises:
        StoreInUseError: Another process holds it.
        StoreConfigurationError: This must not be used as a ledger; the message says why.
    """

    def __init__(self, database: Path, *, create: bool = True, restoring: bool = False) -> None:
        self._path = database
        self._restoring = restoring
        self._wal: _Inode | None = None
        self._file: int | None = None
        if not restoring:
            _require_no_mark(database)
        _require_usable_place(database)
        try:
            self._file = self._open(create=create)
            self._inode = _inode(os.fstat(self._file))
            _held.add(self._inode)
            self._require_one_name()
        except OSError as error:
            self.release()
            raise StoreConfigurationError(
                f"The ledger {database} cannot be opened ({error.strerror}): its folder must exist"
                " and be writable, and so must the file."
            ) from error
        except BaseException:
            self.release()
            raise

    @property
    def header(self) -> bytes:
        """The first 100 bytes of the file as they are on disk, without its write-ahead log."""
        assert self._file is not None
        return os.pread(self._file, 100, 0)

    @property
    def is_in_place(self) -> bool:
        """Whether the locked file still has its name."""
        return _inode_at(self._path) == self._inode

    def note_wal(self) -> None:
        """Note which write-ahead log is in use. SQLite keeps it as long as it has the file open."""
        self._wal = _inode_at(beside(self._path, WAL))

    def require_in_place(self) -> None:
        """Check that the locked file still has its name, so that the next start finds it.

        Raises:
            StoreUnavailableError: It was moved, deleted or replaced.
        """
        found = _inode_at(self._path)
        if found is None:
            raise StoreUnavailableError(
                f"The ledger {self._path} was moved or deleted while it was in use: put it back."
            )
        if found != self._inode:
            raise StoreUnavailableError(
                f"The ledger {self._path} was replaced by another file while it was in use: put the"
                " first one back, or stop the server and restore the other with `restore`."
            )

    @property
    def has_wal(self) -> bool:
        """Whether the write-ahead log in use still has its name."""
        return self._wal is None or _inode_at(beside(self._path, WAL)) == self._wal

    def release(self) -> None:
        """Release the lock. May be called again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            _held.discard(self._inode)

    def _open(self, *, create: bool) -> int:
        """Open the file and lock it. Repeats if it is replaced at that moment."""
        while True:
            self._require_not_held_here()
            if not self._restoring:
                self._require_no_traces()
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            file = os.open(self._path, flags, 0o600)
            self._inode = found = _inode(os.fstat(file))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(file)
                raise self._in_use(_owner(found)) from error
            except BaseException:
                os.close(file)
                raise
            if _inode_at(self._path) == found:
                self.is_new = not os.fstat(file).st_size
                return file
            os.close(file)

    def _require_not_held_here(self) -> None:
        if _inode_at(self._path) in _held:
            raise self._in_use(f"process {os.getpid()}")

    def _require_no_traces(self) -> None:
        """Reject a missing ledger whose companions are there: an empty one would replace it."""
        if size_of(self._path):
            return
        left = traces(self._path)
        if self._path.exists():
            # A start that was killed may leave an empty file and its journal: nothing is in there.
            left = [path for path in left if path == beside(self._path, WAL)]
        if left:
            names = " and ".join(str(path) for path in left)
            raise StoreConfigurationError(
                f"There is no ledger {self._path}, but there is {names}: a ledger was here, and its"
                " newest transactions may be in there. Nothing was changed. Put the ledger back under"
                f" its name; or, to begin a new one, move {names} away."
            )

    def _require_one_name(self) -> None:
        """Reject hard links: each name would have a write-ahead log of its own."""
        assert self._file is not None
        names = os.fstat(self._file).st_nlink
        if names > 1:
            raise StoreConfigurationError(
                f"The ledger {self._path} has {names} names (hard links), and transactions may be"
                " beside another one of them. Nothing was changed. Find the names with `find FOLDER"
                f" -samefile {self._path}`, keep the one that has a {WAL} file beside it, and delete the"
                " others; to have a copy, use `backup`."
            )

    def _in_use(self, owner: str) -> StoreInUseError:
        return StoreInUseError(
            f"The ledger {self._path} is in use by {owner}: stop that process first, or name another"
            " file."
        )


def owner_of(path: Path) -> str:
    """Return who has locked a file, as the end of a sentence, or an empty text if nobody has."""
    inode = _inode_at(path)
    if inode is None:
        return ""
    if inode in _held:
        return f"process {os.getpid()}"
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(inode)
    finally:
        os.close(file)
    return ""


def _require_no_mark(database: Path) -> None:
    """Reject a ledger whose files a restore is moving, or was."""
    mark = beside(database, RESTORING)
    if not mark.exists():
        return
    if owner := owner_of(mark):
        raise StoreInUseError(f"The ledger {database} is being restored by {owner}: wait for it.")
    raise StoreConfigurationError(
        f"A restore of the ledger {database} was interrupted: run `restore` again."
    )


def _require_usable_place(database: Path) -> None:
    """Reject places where a ledger file would not be safe."""
    mount = mount_of(database)
    if mount is None:
        return
    if mount.point == database:
        raise StoreConfigurationError(
            f"The ledger {database} is mounted as a single file, so its write-ahead log would be"
            " outside of the mount and get lost: mount its folder."
        )
    if mount.kind in NETWORK_TYPES:
        raise StoreConfigurationError(
            f"The ledger {database} is on a network file system ({mount.kind}), where another machine"
            " could write to it at the same time: name a file on a local disk."
        )


def _owner(inode: _Inode) -> str:
    """Return who has locked a file, as far as this process may know."""
    with suppress(OSError, ValueError, IndexError):
        for line in LOCKS.read_text("ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode[1]:
                process = int(fields[4])
                return f"process {process}" if process > 0 else "another process"
    return "another process"


def _inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino


def _inode_at(path: Path) -> _Inode | None:
    try:
        return _inode(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
