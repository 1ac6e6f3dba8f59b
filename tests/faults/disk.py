"""A disk that can lose power, tear writes and fail: a layer over SQLite's own file access.

Files are kept as they are seen by the process (in real files, which is what a page cache shows), and
beside that as they are on the platter: what was synced, and the writes since. `crash` lays down in a
new folder what a power loss may leave: of the writes that were not synced each one whole, or torn, or
none of it, in any combination.

A sync that fails loses for good what it should have synced, though the process still reads it: that
is what Linux does (its pages are marked clean). Names of new files live as long as the folder was
synced or, for a log, the file itself: so does SQLite's own layer, which syncs the folder with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

Change = tuple[int, bytes] | int
"""A write at an offset, or the size that the file was cut to."""


@dataclass(slots=True)
class Platter:
    """What is on the platter of one file."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    named: bool = False


@dataclass(slots=True)
class Disk:
    """The state of the disk under one folder, and its switches.

    Attributes:
        fail: Asked before each I/O call, with its name and the file's; what it returns is raised.
        trace: Each call that changes something, without the contents.
        calls: How many I/O calls there have been.
    """

    fail: Callable[[str, str], Exception | None] = lambda _call, _name: None
    files: dict[str, Platter] = field(default_factory=dict)
    unlinked: dict[str, Platter] = field(default_factory=dict)
    trace: list[tuple[Any, ...]] = field(default_factory=list)
    calls: int = 0

    def adopt(self, folder: Path) -> None:
        """Take what a folder holds as being on the platter."""
        for path in sorted(folder.iterdir()):
            self.known(str(path))

    def step(self, call: str, path: str, *detail: Any) -> None:
        """Count an I/O call, and fail if it is to."""
        self.calls += 1
        name = Path(path).name
        self.trace.append((call, name, *detail))
        error = self.fail(call, name)
        if error is not None:
            raise error

    def known(self, path: str) -> Platter:
        """The platter of a file; one that was there before is on it whole."""
        platter = self.files.get(path)
        if platter is None:
            exists = Path(path).exists()
            content = Path(path).read_bytes() if exists else b""
            platter = self.files[path] = Platter(bytearray(content), named=exists)
        return platter

    def synced(self, path: str) -> None:
        """Note that a file is on the platter now, its name included if it is a log."""
        platter = self.known(path)
        for change in platter.pending:
            apply(platter.synced, change)
        platter.pending.clear()
        if path.endswith(("-wal", "-journal")):
            platter.named = True

    def sync_failed(self, path: str) -> None:
        """Note that the writes since the last sync will never reach the platter by a later one."""
        self.known(path).pending.clear()

    def rewrite(self, path: str) -> None:
        """A file is written over with what can be read of it, and synced."""
        content = Path(path).read_bytes()
        self.step("write", path, 0, len(content))
        self.known(path).pending.append((0, content))
        try:
            self.step("sync", path)
        except Exception:
            self.sync_failed(path)
            raise
        self.synced(path)

    def folder_synced(self) -> None:
        """Note that all names, and all absences of names, are on the platter."""
        for platter in self.files.values():
            platter.named = True
        self.unlinked.clear()

    def deleted(self, path: str, *, durably: bool) -> None:
        """Note that a file is gone; a power loss may bring it back unless `durably`."""
        platter = self.files.pop(path, None)
        if platter is not None and platter.named and not durably:
            self.unlinked.setdefault(path, platter)

    def crash(self, random: Random, folder: Path) -> None:
        """Lay down in `folder` one of the states that a power loss may leave."""
        left = dict(self.files)
        for path, platter in self.unlinked.items():
            if path not in left and random.random() < 0.5:
                left[path] = platter
        for path, platter in left.items():
            if not platter.named and random.random() < 0.5:
                continue
            content = bytearray(platter.synced)
            for change in _survivors(random, platter.pending):
                apply(content, change)
            (folder / Path(path).name).write_bytes(content)


def _survivors(random: Random, pending: Iterable[Change]) -> Iterable[Change]:
    mood = random.choice(("none", "all", "prefix", "any"))
    keeping = True
    for change in pending:
        if mood == "any":
            keeping = random.random() < 0.5
        elif mood == "prefix":
            keeping = keeping and random.random() < 0.8
        if mood == "none" or not keeping:
            continue
        if isinstance(change, tuple) and mood != "all" and random.random() < 0.3:
            offset, data = change
            yield offset, data[: random.randrange(len(data) + 1)]
        else:
            yield change


def apply(content: bytearray, change: Change) -> None:
    """Do to a file's content what a call did."""
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
        return
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class DiskLayer(apsw.VFS):
    """SQLite's file access by way of a Disk, under a name for `SqliteStore.open(vfs=...)`."""

    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "")
        self.vfs_name = name
        self.disk = disk

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """A failure at a point where SQLite listens to nobody, such as closing, is no news."""
        return True

    def xOpen(self, name: Any, flags: list[int]) -> "_File":
        return _File(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.disk.step("delete", filename)
        super().xDelete(filename, syncdir)
        self.disk.deleted(filename, durably=syncdir)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.disk = disk
        # A temporary file has no name and nothing to lose.
        if self.path:
            disk.step("open", self.path)
            disk.known(self.path)
        super().__init__("", name, flags)

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """See DiskLayer."""
        return True

    def xRead(self, amount: int, offset: int) -> bytes:
        self.disk.step("read", self.path or "")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.step("write", self.path or "", offset, len(data))
        super().xWrite(data, offset)
        if self.path:
            self.disk.known(self.path).pending.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self.disk.step("truncate", self.path or "", newsize)
        super().xTruncate(newsize)
        if self.path:
            self.disk.known(self.path).pending.append(newsize)

    def xSync(self, flags: int) -> None:
        try:
            self.disk.step("sync", self.path or "")
        except Exception:
            self.disk.sync_failed(self.path or "")
            raise
        if self.path:
            self.disk.synced(self.path)
