"""Checks a whole ledger: every account, and what else its store keeps."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.values import Account
from entitlements_server.maintenance.paging import oldest_first, pages_with_damage
from entitlements_server.stores.alerts import CLOCK_TOLERANCE_US
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import (
    DamagedRecordError,
    Finding,
    Progress,
    Store,
    StoreUnavailableError,
    SupportsSelfCheck,
    silent,
)

REMEMBERED = 250_000
"""Transactions of a history whose keys and charges are kept in memory, about 200 MB."""


async def verify(
    store: Store,
    progress: Progress = silent,
    *,
    remembered: int = REMEMBERED,
    now_us: int | None = None,
) -> AsyncIterator[Finding]:
    """Check every account of a store. Yields what is wrong.

    A store that can check itself does so first. Then every invariant of a history is checked, see
    `ledger/invariants.py`, and that its transactions add up to the account, including the head of its
    chain. What cannot be decoded is a finding, and everything else is checked all the same. A history
    that is ahead of the clock is a warning.

    Args:
        store: The ledger. If it is in use, each history is read up to the account as first read.
        progress: Reports transactions.
        remembered: Transactions of a history to keep in memory. Longer histories are read
            several times.
        now_us: The time, microseconds since 1970 UTC: later transactions are a warning. None: only those
            dated later than they were decided.

    Raises:
        StoreUnavailableError: The store cannot be read, and nothing is known to be wrong with it.
    """
    is_damaged = False
    try:
        if isinstance(store, SupportsSelfCheck):
            for finding in await store.self_check():
                is_damaged = True
                yield finding
        async for finding in _verify_accounts(store, progress, remembered, now_us):
            yield finding
    except StoreUnavailableError as error:
        if not is_damaged:
            raise
        cause = error.__cause__ or error
        yield Finding("", "", f"the rest was not checked, because it cannot be read: {cause!r}")


async def _verify_accounts(
    store: Store, progress: Progress, remembered: int, now_us: int | None
) -> AsyncIterator[Finding]:
    total = 0
    async for page in pages_with_damage(store):
        total += sum(account.transaction_count for account in page.accounts)
    done = 0
    progress(done, total)
    async for page in pages_with_damage(store):
        for error in page.damaged:
            yield _unreadable(error)
        for account in page.accounts:
            async for finding in _verify_account(store, account, remembered, now_us):
                yield finding
            done += account.transaction_count
            progress(done, max(done, total))


async def _verify_account(
    store: Store, account: Account, remembered: int, now_us: int | None
) -> AsyncIterator[Finding]:
    parts = max(-(-account.transaction_count // remembered), 1)
    try:
        for part in range(parts):
            async for finding in _check(store, History(account, part, parts)):
                yield finding
            if part == 0 and (warning := await _ahead_of_clock(store, account, now_us)):
                yield warning
    except (DamagedRecordError, ForeignFormatError) as error:
        # What follows depends on it, so nothing can be said of the rest of the history but this.
        yield _unreadable(error)
        if isinstance(error, DamagedRecordError) and error.sequence:
            async for finding in _other_unreadable(store, account, error.sequence):
                yield finding


async def _check(store: Store, history: History) -> AsyncIterator[Finding]:
    account = history.account
    async for transaction in oldest_first(store, account):
        for what in history.add(transaction, encode_transaction(transaction)):
            yield Finding(account.user_id, transaction.transaction_id, what)
    for what in history.finish():
        yield Finding(account.user_id, "", what)


async def _other_unreadable(store: Store, account: Account, after: int) -> AsyncIterator[Finding]:
    """Read the history after a transaction that cannot be read. Yields all others that cannot."""
    while after < account.transaction_count:
        try:
            async for _ in oldest_first(store, account, after):
                pass
        except (DamagedRecordError, ForeignFormatError) as error:
            yield _unreadable(error)
            sequence = error.sequence if isinstance(error, DamagedRecordError) else 0
            if sequence <= after:
                return
            after = sequence
        else:
            return


async def _ahead_of_clock(store: Store, account: Account, now_us: int | None) -> Finding | None:
    """Return a warning if the newest transactions are dated later than they were decided."""
    for newest in await store.history(account.user_id, account.transaction_count + 1, 1):
        right_us = newest.decision_time_us or newest.create_time_us
        if now_us is not None:
            right_us = min(right_us, now_us)
        ahead_us = newest.create_time_us - right_us
        if ahead_us > CLOCK_TOLERANCE_US:
            dated = datetime.fromtimestamp(newest.create_time_us / 1e6, UTC).isoformat()
            what = (
                f"it is dated {dated}, {ahead_us / 1e6:.0f} s ahead of the clock: a clock ran ahead, and"
                " all transactions of this user get this date until then, beside the time of their decision"
            )
            return Finding(account.user_id, newest.transaction_id, what, is_warning=True)
    return None


def _unreadable(error: Exception) -> Finding:
    if isinstance(error, DamagedRecordError):
        sequence = str(error.sequence) if error.sequence else ""
        return Finding(error.user_id, sequence, f"{error.record} cannot be used: {error.problem}")
    user_id = error.user_id if isinstance(error, ForeignFormatError) else ""
    return Finding(user_id, "", f"a record cannot be read: {error}")
