"""Checks a whole ledger: every account, and what else its store keeps."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import chain

from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.values import Account
from entitlements_server.maintenance.paging import (
    HistoryReader,
    account_pages,
    count_transactions,
    oldest_first,
)
from entitlements_server.maintenance.read_ahead import ReadAhead
from entitlements_server.stores.interface import (
    Finding,
    Progress,
    Store,
    SupportsSelfCheck,
    silent,
)

REMEMBERED = 250_000
"""Transactions of a history whose keys and charges are kept in memory, about 200 MB."""


class Witness:
    """Sees every account as verify recomputes it from its transactions. This one does nothing."""

    def begin(self, account: Account) -> int:  # noqa: ARG002  # for others
        """Begin the history of an account, as stored.

        Returns the length of the history at which `compare` is called; 0: it is not called.
        """
        return 0

    def compare(self, account: Account) -> Iterator[str]:  # noqa: ARG002  # for others
        """See the recomputed account at that length. Yields what is wrong, as the end of a sentence."""
        yield from ()

    def end(self, account: Account) -> Iterator[str]:  # noqa: ARG002  # for others
        """See the recomputed account at the end of its history. Yields likewise."""
        yield from ()

    def finish(self) -> Iterator[Finding]:
        """End after the last account. Yields what is wrong."""
        yield from ()


NO_WITNESS = Witness()
"""Sees nothing."""


async def verify(
    store: Store,
    progress: Progress = silent,
    *,
    remembered: int = REMEMBERED,
    witness: Witness = NO_WITNESS,
) -> AsyncGenerator[Finding, None]:
    """Check every account of a store. Yields what is wrong.

    Checks every invariant of a history, see `ledger/invariants.py`, and that its transactions add up to
    the account, including the head of its chain. At the end a store that can check itself does so.

    Args:
        store: The ledger. If it is in use, each history is read up to the account as first read.
        progress: Reports transactions.
        remembered: Transactions of a history to keep in memory. Longer histories are read
            several times.
        witness: Sees every account as it is recomputed.
    """
    total = await count_transactions(store)
    done = 0
    progress(done, total)
    async for page in account_pages(store):
        async with ReadAhead(store, page.accounts) as reader:
            for account in page.accounts:
                parts = max(-(-account.transaction_count // remembered), 1)
                for part in range(parts):
                    seeing = NO_WITNESS if part else witness
                    async for finding in _check(reader, History(account, part, parts), seeing):
                        yield finding
                done += account.transaction_count
                progress(done, max(done, total))
    for finding in witness.finish():
        yield finding
    if isinstance(store, SupportsSelfCheck):
        for finding in await store.self_check():
            yield finding


async def _check(
    store: HistoryReader, history: History, witness: Witness
) -> AsyncIterator[Finding]:
    account = history.account
    compared = witness.begin(account)
    async for transaction in oldest_first(store, account):
        for what in history.add(transaction, encode_transaction(transaction)):
            yield Finding(account.user_id, transaction.transaction_id, what)
        if history.so_far.transaction_count == compared:
            for what in witness.compare(history.so_far):
                yield Finding(account.user_id, "", what)
    for what in chain(history.finish(), witness.end(history.so_far)):
        yield Finding(account.user_id, "", what)
