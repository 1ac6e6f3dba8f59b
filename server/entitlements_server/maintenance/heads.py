"""The side file of a checkpoint: one entry for each user, 72 bytes, sorted.

An entry is the digest of the user (32 bytes), the length of the history (8 bytes, most significant
first) and the head of its chain (32 bytes). Both classes need little memory, however many users there
are.
"""

import heapq
import mmap
import tempfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple, Self, overload

from entitlements_server.maintenance.merkle import MerkleTree

MAX_SORTED = 250_000
"""Entries that are sorted in memory at a time, about 30 MB."""

_LAYOUT = Struct(">32sQ32s")

ENTRY_SIZE = _LAYOUT.size
"""Size of an entry in bytes."""


class Entry(NamedTuple):
    """What a checkpoint says of one user.

    Attributes:
        user: The digest of the user: see `user_digest`.
        length: Number of transactions.
        head: Head of the chain after them, 32 bytes.
    """

    user: bytes
    length: int
    head: bytes


def user_digest(ledger_id: str, user_id: str) -> bytes:
    """Return the digest of a user in the checkpoints of a ledger."""
    return sha256(f"{ledger_id} {user_id}".encode()).digest()


class HeadsWriter:
    """Sorts entries and writes them to a file.

    Args:
        folder: Where to keep what does not fit into memory, until `write` returns.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[bytes] = []
        self._runs: list[BinaryIO] = []

    def add(self, entry: Entry) -> None:
        """Add an entry. Each user may have one."""
        self._entries.append(_LAYOUT.pack(*entry))
        if len(self._entries) >= MAX_SORTED:
            run = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # see close
            self._runs.append(run)
            run.writelines(sorted(self._entries))
            self._entries.clear()

    def write(self, file: BinaryIO) -> bytes:
        """Write all entries in order. Returns their Merkle root."""
        tree = MerkleTree()
        runs = [_read(run) for run in self._runs]
        for entry in heapq.merge(sorted(self._entries), *runs):
            tree.add(entry)
            file.write(entry)
        return tree.root

    def close(self) -> None:
        """Delete what was kept."""
        for run in self._runs:
            run.close()


def _read(run: BinaryIO) -> Iterator[bytes]:
    run.seek(0)
    while entry := run.read(ENTRY_SIZE):
        yield entry


class Heads(Sequence[Entry]):
    """The entries in a file, which is mapped into memory.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not consist of entries.
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            # An empty file cannot be mapped.
            self._bytes: mmap.mmap | bytes = (
                mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            )
        if size % ENTRY_SIZE:
            self.close()
            raise ValueError("its size is not a multiple of an entry")
        self._length = size // ENTRY_SIZE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._length))]
        if not 0 <= index < self._length:
            raise IndexError
        return Entry(*_LAYOUT.unpack_from(self._bytes, index * ENTRY_SIZE))

    def find(self, user: bytes) -> int | None:
        """Return the index of a user's entry, or None if there is none."""
        index = bisect_left(self, user, key=_user_of)
        return index if index < self._length and self[index].user == user else None

    def root(self) -> bytes:
        """Compute the Merkle root."""
        tree = MerkleTree()
        for start in range(0, self._length * ENTRY_SIZE, ENTRY_SIZE):
            tree.add(self._bytes[start : start + ENTRY_SIZE])
        return tree.root

    def close(self) -> None:
        """Release the file."""
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()


def _user_of(entry: Entry) -> bytes:
    return entry.user
