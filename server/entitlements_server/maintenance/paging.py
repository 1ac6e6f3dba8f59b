"""Whole ledgers and whole histories, a page at a time."""

from collections.abc import AsyncIterator

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.interface import MAX_PAGE, AccountPage, Store


async def account_pages(store: Store, cursor: str = "") -> AsyncIterator[AccountPage]:
    """Read all accounts, a page at a time, from a cursor on."""
    while True:
        page = await store.accounts(cursor, MAX_PAGE)
        yield page
        cursor = page.next_cursor
        if not cursor:
            return


async def count_transactions(store: Store) -> int:
    """Count the transactions: a pass over the accounts alone."""
    total = 0
    async for page in account_pages(store):
        total += sum(account.transaction_count for account in page.accounts)
    return total


async def newest_first(store: Store, account: Account) -> AsyncIterator[Transaction]:
    """Read a history backwards from where `account` stands, a page at a time."""
    before = account.transaction_count + 1
    while before > 1:
        page = await store.history(account.user_id, before, MAX_PAGE)
        if not page:
            return
        for transaction in page:
            yield transaction
        before = page[-1].sequence


async def oldest_first(store: Store, account: Account) -> AsyncIterator[Transaction]:
    """Read a history forwards to where `account` stands, a page at a time."""
    after = 0
    while after < account.transaction_count:
        size = min(MAX_PAGE, account.transaction_count - after)
        page = await store.history(account.user_id, after + size + 1, size)
        if not page:
            return
        for transaction in reversed(page):
            yield transaction
        after += size
