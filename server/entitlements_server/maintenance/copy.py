"""Copies a whole ledger from one store to another, and compares the two."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.maintenance.paging import account_pages, count_transactions, history_page
from entitlements_server.stores.interface import MAX_PAGE, Progress, Store, silent

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AT_ONCE = 64
"""Users whose histories are read concurrently."""


class CopyError(ConfigurationError):
    """The ledger cannot be copied, or the copy differs; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The result of a copy.

    Attributes:
        accounts: Accounts in the ledger.
        transactions: Transactions in it.
        appended: How many of them this run wrote: fewer if it resumed another.
        balance: The sum of all balances, in tokens.
    """

    accounts: int
    transactions: int
    appended: int
    balance: int


async def copy(
    source: Store,
    target: Store,
    *,
    resume: bool,
    copying: Progress = silent,
    verifying: Progress = silent,
) -> Copied:
    """Copy every transaction, then read both ledgers and compare them.

    In the end the target has the id of the source, so that checkpoints of the source hold for it, and
    the next generation.

    The source must not be written to during the copy. If it is, the writes are either copied completely
    or detected by the comparison.

    Args:
        source: The ledger to copy.
        target: The store to copy it to.
        resume: Continue an interrupted copy: the target may have the beginnings of the same
            histories. Otherwise it must be empty.
        copying: Reports copied transactions.
        verifying: Reports compared transactions.

    Raises:
        CopyError: The target is not empty, has another history, or differs at the end.
        StoreUnavailableError: A store cannot be reached. The copy can be resumed.
    """
    if not resume and (await target.accounts("", 1)).accounts:
        raise CopyError(
            "The target is not empty: name an empty one, or add --resume if it contains an"
            " interrupted copy of this ledger."
        )
    total = await count_transactions(source)
    appended = await _append_missing(source, target, total, copying)
    copied = await _verify(source, target, total, appended, verifying)
    # Not before it is complete: half a copy must not pass as the ledger.
    await target.adopt((await source.identity()).successor)
    return copied


async def _append_missing(source: Store, target: Store, total: int, progress: Progress) -> int:
    appended = done = 0
    progress(0, total)
    async for accounts in account_pages(source):
        page = accounts.accounts
        there = await _gather(lambda one: target.account(one.user_id), page)
        batch: list[Transaction] = []
        missing: list[tuple[Account, int]] = []
        _require_derivable(page)
        for account, arrived in zip(page, there, strict=True):
            if arrived.transaction_count > account.transaction_count:
                raise _differs(account.user_id)
            done += arrived.transaction_count
            if arrived.transaction_count < account.transaction_count:
                missing.append((account, arrived.transaction_count))
        for start in range(0, len(missing), _AT_ONCE):
            users = missing[start : start + _AT_ONCE]
            # The first pages of all histories concurrently; the rest of long histories one by one.
            firsts = await _gather(lambda one: history_page(source, one[0], one[1]), users)
            for (account, after), first in zip(users, firsts, strict=True):
                transactions = first
                while transactions:
                    batch += transactions
                    if len(batch) >= MAX_PAGE:
                        await _append(target, batch)
                        appended, done = appended + len(batch), done + len(batch)
                        progress(done, total)
                        batch = []
                    after = transactions[-1].sequence  # noqa: PLW2901  # where this history continues
                    transactions = await history_page(source, account, after)
        if batch:
            await _append(target, batch)
            appended, done = appended + len(batch), done + len(batch)
        progress(done, total)
    return appended


def _require_derivable(accounts: Sequence[Account]) -> None:
    """Reject accounts of newer versions: accounts are derived from transactions, by known rules."""
    if any(account.carried for account in accounts):
        raise CopyError(
            "A newer version has written to the source, and this version cannot derive everything"
            " in its accounts; nothing more was copied. Copy with the newer version."
        )


async def _append(target: Store, transactions: Sequence[Transaction]) -> None:
    try:
        await target.append(transactions)
    except ValueError as error:
        raise CopyError(
            f"The target is not the beginning of this ledger. {error} Name an empty target."
        ) from error


async def _verify(
    source: Store, target: Store, total: int, appended: int, progress: Progress
) -> Copied:
    """Compare every account and transaction, and require that the target has no others."""
    accounts = transactions = balance = 0
    progress(0, total)
    async for found in account_pages(source):
        page = found.accounts
        same = await _gather(lambda one: target.account(one.user_id), page)
        for account, arrived in zip(page, same, strict=True):
            if account != arrived:
                raise _differs(account.user_id)
            accounts += 1
            balance += account.balance
        for start in range(0, len(page), _AT_ONCE):
            users = page[start : start + _AT_ONCE]
            counts = await _gather(lambda one: _compare(source, target, one), users)
            transactions += sum(counts)
            progress(transactions, total)
    there, tokens = 0, 0
    async for found in account_pages(target):
        there += len(found.accounts)
        tokens += sum(account.balance for account in found.accounts)
    if (there, tokens) != (accounts, balance):
        raise CopyError(
            f"The source has {accounts} accounts and the target has {there}: it had others before."
            " Name an empty target."
        )
    return Copied(accounts, transactions, appended, balance)


async def _compare(source: Store, target: Store, account: Account) -> int:
    """Require that both histories of a user are the same. Returns their length."""
    after = balance = 0
    while after < account.transaction_count:
        mine = await history_page(source, account, after)
        theirs = await history_page(target, account, after)
        if mine != theirs or not mine:
            raise _differs(account.user_id)
        after = mine[-1].sequence
        balance += sum(one.amount for one in mine)
    if balance != account.balance:
        raise CopyError(
            f"The history of user '{account.user_id}' does not add up to the balance: run verify on"
            " the source."
        )
    return after


async def _gather(
    read: Callable[[_Item], Awaitable[_Result]], items: Sequence[_Item]
) -> list[_Result]:
    return list(await asyncio.gather(*(read(item) for item in items)))


def _differs(user_id: str) -> CopyError:
    return CopyError(
        f"The history of user '{user_id}' differs between the ledgers: the source was written to, or"
        " the target had other contents. Stop all writers, and copy to an empty target."
    )
