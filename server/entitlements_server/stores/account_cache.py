"""The accounts that were used last, in memory."""

from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

_Entry = TypeVar("_Entry")


class AccountCache(Generic[_Entry]):
    """Remembers what a store knows of each user, and forgets who was not used for longest.

    Any thread may read it: looking at an entry moves it within the cache, hence the lock.

    Args:
        size: Most entries.
    """

    def __init__(self, size: int) -> None:
        self._entries: LRUCache[str, _Entry] = LRUCache(size)
        self._lock = Lock()

    def get(self, user_id: str) -> _Entry | None:
        """Return what is remembered of a user."""
        with self._lock:
            return self._entries.get(user_id)

    def put(self, user_id: str, entry: _Entry) -> None:
        """Remember an entry in place of an earlier one."""
        with self._lock:
            self._entries[user_id] = entry

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._entries.clear()
