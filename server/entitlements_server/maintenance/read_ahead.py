"""Reads histories before they are needed, so that a store is not idle while they are checked."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.maintenance.paging import HistoryReader, history_page
from entitlements_server.stores.interface import MAX_PAGE

MAX_AHEAD = 2 * MAX_PAGE
"""Transactions that are read before they are needed, about 2 MB."""


class _Page(NamedTuple):
    size: int
    read: "asyncio.Task[Sequence[Transaction]]"


class ReadAhead:
    """Reads the first pages of some histories, of several users at once.

    An error of one of them is raised when it is asked for. Leave the block to stop reading.

    Args:
        store: Where to read.
        accounts: Those whose histories will be read, in this order. Others may be read, too.
    """

    def __init__(self, store: HistoryReader, accounts: Iterable[Account]) -> None:
        self._store = store
        self._waiting = deque(accounts)
        self._pages: dict[str, _Page] = {}
        self._size = 0

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._waiting.clear()
        reads = [page.read for page in self._pages.values()]
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        page = None if after else self._pages.pop(user_id, None)
        if page is None:
            return await self._store.history_after(user_id, after, limit)
        self._size -= page.size
        self._begin()
        return await page.read

    def _begin(self) -> None:
        """Begin as many reads as fit."""
        while self._waiting and self._size < MAX_AHEAD:
            account = self._waiting.popleft()
            size = min(account.transaction_count, MAX_PAGE)
            read = asyncio.ensure_future(history_page(self._store, account, 0))
            self._pages[account.user_id] = _Page(size, read)
            self._size += size
