"""Reads whole ledgers and histories, page by page."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.interface import MAX_PAGE, AccountPage, Store


class HistoryReader(Protocol):
    """Whatever histories can be read from: a store, for instance."""

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""


async def account_pages(store: Store, cursor: str = "") -> AsyncIterator[AccountPage]:
    """Read all accounts from a cursor on, page by page.

    Raises:
        DamagedRecordError, ForeignFormatError: An account cannot be read: none may be missed.
    """
    async for page in pages_with_damage(store, cursor):
        for error in page.damaged:
            raise error
        yield page


async def pages_with_damage(store: Store, cursor: str = "") -> AsyncIterator[AccountPage]:
    """Read all accounts from a cursor on, and why some of them cannot be read, page by page."""
    while True:
        page = await store.accounts(cursor, MAX_PAGE)
        yield page
        cursor = page.next_cursor
        if not cursor:
            return


async def count_transactions(store: Store) -> int:
    """Count the transactions. Reads only the accounts."""
    total = 0
    async for page in account_pages(store):
        total += sum(account.transaction_count for account in page.accounts)
    return total


async def oldest_first(
    store: HistoryReader, account: Account, after: int = 0
) -> AsyncIterator[Transaction]:
    """Read a history after a sequence up to the state of `account`, oldest first, page by page."""
    while after < account.transaction_count:
        page = await history_page(store, account, after)
        for transaction in page:
            yield transaction
        if not page:
            return
        # A row may be stored under another sequence than its own, and the end must be reached.
        after = max(after + 1, page[-1].sequence)


async def history_page(store: HistoryReader, account: Account, after: int) -> Sequence[Transaction]:
    """Read a page of a history after a sequence, up to the state of `account`."""
    limit = min(MAX_PAGE, account.transaction_count - after)
    return await store.history_after(account.user_id, after, limit) if limit > 0 else []
