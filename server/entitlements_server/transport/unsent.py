"""Bounds on the bytes of answers that nobody takes off the server's hands."""

import threading
from collections.abc import Callable

from entitlements_server.transport.interface import LARGE_MESSAGE_BYTES
from entitlements_server.transport.options import Limits

_COPIES = 2
"""Of a message that is not sent yet: Python has one and the core another."""


class Unsent:
    """Counts bytes of large messages that flow control has not let out yet."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.max_unsent_bytes
        self._most_of_one = limits.max_unsent_bytes_per_connection
        self._lock = threading.Lock()
        self._by_peer: dict[str, int] = {}
        self._all = 0

    def has_room(self, peer: Callable[[], str], size: int) -> bool:
        """Return whether a message of `size` bytes may be added for a peer."""
        size *= _COPIES
        if not self._all and size < LARGE_MESSAGE_BYTES:
            return True
        mine = self._by_peer.get(peer(), 0)
        return self._all + size <= self._most and mine + size <= self._most_of_one

    def add(self, peer: str, size: int) -> None:
        """Count a message."""
        size *= _COPIES
        with self._lock:
            self._all += size
            self._by_peer[peer] = self._by_peer.get(peer, 0) + size

    def remove(self, peer: str, size: int) -> None:
        """Count it no more."""
        size *= _COPIES
        with self._lock:
            self._all -= size
            left = self._by_peer[peer] - size
            if left:
                self._by_peer[peer] = left
            else:
                del self._by_peer[peer]
