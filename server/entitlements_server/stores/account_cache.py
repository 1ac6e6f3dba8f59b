"""The most recently used accounts, in memory."""

from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

_Entry = TypeVar("_Entry")


class AccountCache(Generic[_Entry]):
    """Caches an entry for each user. The least recently used user is dropped first.

    Any thread may use it. Reading an entry moves it within the cache, hence the lock.

    Args:
        size: Maximum number of entries.
    """

    def __init__(self, size: int) -> None:
        self._entries: LRUCache[str, _Entry] = LRUCache(size)
        self._lock = Lock()

    def get(self, user_id: str) -> _Entry | None:
        """Return the entry of a user, if it is cached."""
        with self._lock:
            return self._entries.get(user_id)

    def put(self, user_id: str, entry: _Entry) -> None:
        """Add or replace the entry of a user."""
        with self._lock:
            self._entries[user_id] = entry

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock:
            self._entries.clear()
