"""How far a long task has come, told to whoever asked for it."""

from collections.abc import AsyncIterator
from typing import Protocol

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.port import MAX_PAGE, AccountPage, Store


class Progress(Protocol):
    """Is told how far a task has come."""

    def __call__(self, done: int, total: int) -> None:
        """Take note: `done` of `total` steps."""


def silent(done: int, total: int) -> None:  # a Progress
    """Take no note."""


async def account_pages(store: Store, cursor: str = "") -> AsyncIterator[AccountPage]:
    """Read all accounts, a page at a time, from a cursor on."""
    while True:
        page = await store.accounts(cursor, MAX_PAGE)
        yield page
        cursor = page.next_cursor
        if not cursor:
            return


async def count_transactions(store: Store) -> int:
    """Tell how many transactions there are: a pass over the accounts alone."""
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
    behind = 0
    while behind < account.transaction_count:
        size = min(MAX_PAGE, account.transaction_count - behind)
        page = await store.history(account.user_id, behind + size + 1, size)
        if not page:
            return
        for transaction in reversed(page):
            yield transaction
        behind += size
