"""Limits on the bytes of answers that are not sent yet."""

import threading
from collections.abc import Callable

from entitlements_server.transport.interface import LARGE_MESSAGE_BYTES
from entitlements_server.transport.options import Limits

_COPIES = 2
"""Copies of an unsent message: one in Python, one in gRPC's core."""


class Unsent:
    """Counts the bytes of large messages that flow control has not let through yet."""

    def __init__(self, limits: Limits) -> None:
        self._max = limits.max_unsent_bytes
        self._max_per_connection = limits.max_unsent_bytes_per_connection
        self._lock = threading.Lock()
        self._by_peer: dict[str, int] = {}
        self._all = 0

    def has_room(self, peer: Callable[[], str], size: int) -> bool:
        """Return whether a peer may have another message of `size` bytes."""
        size *= _COPIES
        if not self._all and size < LARGE_MESSAGE_BYTES:
            return True
        mine = self._by_peer.get(peer(), 0)
        return self._all + size <= self._max and mine + size <= self._max_per_connection

    def add(self, peer: str, size: int) -> None:
        """Count a message."""
        size *= _COPIES
        with self._lock:
            self._all += size
            self._by_peer[peer] = self._by_peer.get(peer, 0) + size

    def remove(self, peer: str, size: int) -> None:
        """Stop counting a message."""
        size *= _COPIES
        with self._lock:
            self._all -= size
            left = self._by_peer[peer] - size
            if left:
                self._by_peer[peer] = left
            else:
                del self._by_peer[peer]
