"""Whole ledgers and whole histories, a page at a time."""

from collections.abc import AsyncIterator, Sequence

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


async def oldest_first(store: Store, account: Account) -> AsyncIterator[Transaction]:
    """Read a history forwards to where `account` stands, a page at a time."""
    after = 0
    while after < account.transaction_count:
        page = await history_page(store, account, after)
        for transaction in page:
            yield transaction
        if not page:
            return
        after = page[-1].sequence


async def history_page(store: Store, account: Account, after: int) -> Sequence[Transaction]:
    """Read a page of the transactions after a sequence, to where `account` stands."""
    limit = min(MAX_PAGE, account.transaction_count - after)
    return await store.history_after(account.user_id, after, limit) if limit > 0 else []
