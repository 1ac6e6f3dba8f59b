"""Hands work from any thread to the event loop, waking it once for a whole burst."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Handover(Generic[_Item]):
    """Hands items to the event loop in the order in which they were posted.

    Waking a loop costs a system call, so only the first item after a delivery wakes it. The rest of
    the burst is delivered with it.

    Args:
        loop: The event loop.
        take: Called on the loop with each item. Must not raise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[_Item], None]) -> None:
        self._loop = loop
        self._take = take
        self._items: deque[_Item] = deque()
        self._woken = False

    def post(self, item: _Item) -> None:
        """Hand an item over. May be called from any thread."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # Before the first item is taken, so that anything posted from now on wakes the loop again.
        self._woken = False
        items = self._items
        for _ in range(len(items)):
            self._take(items.popleft())
