"""Checks a whole ledger: every account, and what else its store keeps."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.maintenance.paging import (
    HistoryReader,
    oldest_first,
    pages_with_damage,
)
from entitlements_server.maintenance.read_ahead import ReadAhead
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
    now_us: int | None = None,
    witness: Witness = NO_WITNESS,
) -> AsyncGenerator[Finding, None]:
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
        witness: Sees every account as it is recomputed. Not the rest of one that has a damaged record.

    Raises:
        StoreUnavailableError: The store cannot be read, and nothing is known to be wrong with it.
    """
    is_damaged = False
    try:
        if isinstance(store, SupportsSelfCheck):
            for finding in await store.self_check():
                is_damaged = True
                yield finding
        async for finding in _verify_accounts(
            store, progress, _Checks(remembered, now_us, witness)
        ):
            yield finding
    except StoreUnavailableError as error:
        if not is_damaged:
            raise
        cause = error.__cause__ or error
        yield Finding("", "", f"the rest was not checked, because it cannot be read: {cause!r}")


@dataclass(frozen=True, slots=True)
class _Checks:
    """How every account is checked: see verify."""

    remembered: int
    now_us: int | None
    witness: Witness


async def _verify_accounts(
    store: Store, progress: Progress, checks: _Checks
) -> AsyncIterator[Finding]:
    total = 0
    async for page in pages_with_damage(store):
        total += sum(account.transaction_count for account in page.accounts)
    done = 0
    progress(done, total)
    async for page in pages_with_damage(store):
        for error in page.damaged:
            yield _unreadable(error)
        async with ReadAhead(store, page.accounts) as reader:
            for account in page.accounts:
                async for finding in _verify_account(reader, account, checks):
                    yield finding
                done += account.transaction_count
                progress(done, max(done, total))
    for finding in checks.witness.finish():
        yield finding


async def _verify_account(
    reader: HistoryReader, account: Account, checks: _Checks
) -> AsyncIterator[Finding]:
    parts = max(-(-account.transaction_count // checks.remembered), 1)
    try:
        async for finding in _check(reader, History(account, 0, parts), checks):
            yield finding
        for part in range(1, parts):
            async for finding in _check_part(reader, History(account, part, parts)):
                yield finding
    except (DamagedRecordError, ForeignFormatError) as error:
        # What follows depends on it, so nothing can be said of the rest of the history but this.
        yield _unreadable(error)
        if isinstance(error, DamagedRecordError) and error.sequence:
            async for finding in _other_unreadable(reader, account, error.sequence):
                yield finding


async def _check(
    reader: HistoryReader, history: History, checks: _Checks
) -> AsyncIterator[Finding]:
    """Check a history, and its first part of keys and charges."""
    account, witness = history.account, checks.witness
    compared = witness.begin(account)
    newest: Transaction | None = None
    async for newest in oldest_first(reader, account):
        for what in history.add(newest, encode_transaction(newest)):
            yield Finding(account.user_id, newest.transaction_id, what)
        if history.so_far.transaction_count == compared:
            for what in witness.compare(history.so_far):
                yield Finding(account.user_id, "", what)
    for what in chain(history.finish(), witness.end(history.so_far)):
        yield Finding(account.user_id, "", what)
    if newest and (warning := _ahead_of_clock(newest, checks.now_us)):
        yield Finding(account.user_id, newest.transaction_id, warning, is_warning=True)


async def _check_part(reader: HistoryReader, history: History) -> AsyncIterator[Finding]:
    """Check another part of the keys and charges."""
    user_id = history.account.user_id
    async for transaction in oldest_first(reader, history.account):
        for what in history.add(transaction, encode_transaction(transaction)):
            yield Finding(user_id, transaction.transaction_id, what)


async def _other_unreadable(
    reader: HistoryReader, account: Account, after: int
) -> AsyncIterator[Finding]:
    """Read the history after a transaction that cannot be read. Yields all others that cannot."""
    while after < account.transaction_count:
        try:
            async for _ in oldest_first(reader, account, after):
                pass
        except (DamagedRecordError, ForeignFormatError) as error:
            yield _unreadable(error)
            sequence = error.sequence if isinstance(error, DamagedRecordError) else 0
            if sequence <= after:
                return
            after = sequence
        else:
            return


def _ahead_of_clock(newest: Transaction, now_us: int | None) -> str | None:
    """Return a warning if the newest transaction is dated later than it was decided."""
    right_us = newest.decision_time_us or newest.create_time_us
    if now_us is not None:
        right_us = min(right_us, now_us)
    ahead_us = newest.create_time_us - right_us
    if ahead_us <= CLOCK_TOLERANCE_US:
        return None
    dated = datetime.fromtimestamp(newest.create_time_us / 1e6, UTC).isoformat()
    return (
        f"it is dated {dated}, {ahead_us / 1e6:.0f} s ahead of the clock: a clock ran ahead, and all"
        " transactions of this user get this date until then, beside the time of their decision"
    )


def _unreadable(error: Exception) -> Finding:
    if isinstance(error, DamagedRecordError):
        sequence = str(error.sequence) if error.sequence else ""
        return Finding(error.user_id, sequence, f"{error.record} cannot be used: {error.problem}")
    user_id = error.user_id if isinstance(error, ForeignFormatError) else ""
    return Finding(user_id, "", f"a record cannot be read: {error}")
