"""The Merkle root of a list of entries, as RFC 6962 defines it, with SHA-256."""

from hashlib import sha256

_LEAF = b"\x00"
_NODE = b"\x01"


class MerkleTree:
    """Computes the root while entries are added. Keeps one digest per level of the tree."""

    __slots__ = ("_size", "_subtrees")

    def __init__(self) -> None:
        self._size = 0
        # The roots of full subtrees, largest first.
        self._subtrees: list[bytes] = []

    def add(self, entry: bytes) -> None:
        """Add the next entry."""
        self._size += 1
        digest = sha256(_LEAF + entry).digest()
        size = self._size
        while not size & 1:
            digest = sha256(_NODE + self._subtrees.pop() + digest).digest()
            size >>= 1
        self._subtrees.append(digest)

    @property
    def root(self) -> bytes:
        """The root of all entries so far, 32 bytes."""
        if not self._subtrees:
            return sha256().digest()
        *left, digest = self._subtrees
        for subtree in reversed(left):
            digest = sha256(_NODE + subtree + digest).digest()
        return digest
