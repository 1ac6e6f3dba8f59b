"""Checking a whole ledger: every account through the port, and SQLite's tables besides."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import apsw

from entitlements_server.care.progress import (
    Progress,
    account_pages,
    count_transactions,
    newest_first,
    silent,
)
from entitlements_server.ledger.audit import Audit
from entitlements_server.ledger.values import Account
from entitlements_server.stores.port import Store

REMEMBERED = 1_000_000
"""Transactions of one history whose keys and refunds are remembered at once, about 200 MB."""

_CHECKS = resources.files("entitlements_server.stores.sqlite") / "sql" / "check"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold.

    Attributes:
        user_id: Whose history, or empty: of the file as a whole.
        transaction_id: Which transaction, or empty: of the account as a whole.
        what: What is wrong, as the end of a sentence.
    """

    user_id: str
    transaction_id: str
    what: str

    def __str__(self) -> str:
        place = f"user '{self.user_id}'" if self.user_id else "the file"
        if self.transaction_id:
            place += f", transaction {self.transaction_id}"
        return f"{place}: {self.what}"


async def verify(
    store: Store, tell: Progress = silent, *, remembered: int = REMEMBERED
) -> AsyncIterator[Problem]:
    """Check every account of a store. Yields what does not hold.

    Sequences without gaps, balances that follow from each other, the sum of the amounts, times
    that do not go back, each bound key once, refunds of at most their charge.

    Args:
        store: May be in use: each history is checked up to where its account stood.
        tell: Told of transactions.
        remembered: Transactions of one history to remember at once; longer ones are read again.
    """
    total = await count_transactions(store)
    done = 0
    tell(done, total)
    async for page in account_pages(store):
        for account in page.accounts:
            parts = max(-(-account.transaction_count // remembered), 1)
            for part in range(parts):
                async for problem in _check(store, Audit(account, part, parts)):
                    yield problem
            done += account.transaction_count
            tell(done, max(done, total))


def verify_tables(file: Path) -> Iterator[Problem]:
    """Check that the tables of a SQLite ledger agree with each other. Yields what does not hold.

    The journal must have been indexed: opening the store does that.
    """
    try:
        yield from _verify_tables(file)
    except apsw.Error as error:
        yield Problem("", "", f"SQLite cannot read it: {error}")


def _verify_tables(file: Path) -> Iterator[Problem]:
    with closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        for (line,) in connection.execute("PRAGMA quick_check(100)"):
            if line != "ok":
                yield Problem("", "", f"SQLite finds it damaged: {line}")
        for check in sorted(_CHECKS.iterdir(), key=lambda one: one.name):
            if not check.name.endswith(".sql"):
                continue
            for user_id, sequence, what in connection.execute(check.read_text("utf-8")):
                yield Problem(user_id or "?", str(sequence), what)


async def _check(store: Store, audit: Audit) -> AsyncIterator[Problem]:
    account: Account = audit.account
    async for transaction in newest_first(store, account):
        for what in audit.look_at(transaction):
            yield Problem(account.user_id, transaction.transaction_id, what)
    for what in audit.finish():
        yield Problem(account.user_id, "", what)
