"""Checks a whole ledger: every account, and what else its store keeps."""

from collections.abc import AsyncIterator

from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.maintenance.paging import account_pages, count_transactions, oldest_first
from entitlements_server.stores.interface import (
    Finding,
    Progress,
    Store,
    SupportsSelfCheck,
    silent,
)

REMEMBERED = 250_000
"""Transactions of a history whose keys and charges are kept in memory, about 200 MB."""


async def verify(
    store: Store, progress: Progress = silent, *, remembered: int = REMEMBERED
) -> AsyncIterator[Finding]:
    """Check every account of a store. Yields what is wrong.

    Checks every invariant of a history, see `ledger/invariants.py`, and that its transactions add up to
    the account, including the head of its chain. At the end a store that can check itself does so.

    Args:
        store: The ledger. If it is in use, each history is read up to the account as first read.
        progress: Reports transactions.
        remembered: Transactions of a history to keep in memory. Longer histories are read
            several times.
    """
    total = await count_transactions(store)
    done = 0
    progress(done, total)
    async for page in account_pages(store):
        for account in page.accounts:
            parts = max(-(-account.transaction_count // remembered), 1)
            for part in range(parts):
                async for finding in _check(store, History(account, part, parts)):
                    yield finding
            done += account.transaction_count
            progress(done, max(done, total))
    if isinstance(store, SupportsSelfCheck):
        for finding in await store.self_check():
            yield finding


async def _check(store: Store, history: History) -> AsyncIterator[Finding]:
    account = history.account
    async for transaction in oldest_first(store, account):
        for what in history.add(transaction, encode_transaction(transaction)):
            yield Finding(account.user_id, transaction.transaction_id, what)
    for what in history.finish():
        yield Finding(account.user_id, "", what)
