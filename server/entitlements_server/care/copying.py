"""Moving a whole ledger from one store to another, and proving that all of it has arrived."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.port import MAX_PAGE, Store

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AT_ONCE = 64
"""Users whose histories are read at the same time."""


class CopyError(Exception):
    """The ledger cannot be copied, or has not arrived whole; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied and verified.

    Attributes:
        accounts: Accounts in the ledger.
        transactions: Transactions in it.
        appended: How many of them this run has written: fewer if it continued another.
        balance: The sum of all balances, in tokens.
    """

    accounts: int
    transactions: int
    appended: int
    balance: int


Step = Callable[[str, int, int], None]
"""Is told what is being done, how many transactions of it are done, and of how many."""


async def copy(source: Store, target: Store, *, resume: bool, step: Step) -> Copied:
    """Copy every transaction, then read both ledgers and compare all of it.

    The source must not be written to meanwhile. What is written to it nevertheless is either
    copied whole or found out by the comparison.

    Args:
        source: Where the ledger is.
        target: Where it goes.
        resume: Go on with a copy that was interrupted: the target may hold the beginnings of the
            same histories. Otherwise it must be empty.
        step: Is told of the progress.

    Raises:
        CopyError: The target is not empty, holds another history, or differs at the end.
        StoreUnavailableError: A store cannot be reached; a copy can be resumed.
    """
    if not resume and (await target.accounts("", 1)).accounts:
        raise CopyError(
            "The target is not empty: name an empty one, or add --resume if it holds the first"
            " part of a copy of this ledger that was interrupted."
        )
    total = sum([one.transaction_count async for one in _accounts(source)])
    appended = await _append_missing(source, target, total, step)
    return await _verify(source, target, total, appended, step)


async def _append_missing(source: Store, target: Store, total: int, step: Step) -> int:
    appended = done = 0
    step("copying", 0, total)
    async for page in _pages(source):
        there = await _gather(lambda one: target.account(one.user_id), page)
        batch: list[Transaction] = []
        missing: list[tuple[Account, int]] = []
        for account, arrived in zip(page, there, strict=True):
            if arrived.transaction_count > account.transaction_count:
                raise _differs(account.user_id)
            done += arrived.transaction_count
            if arrived.transaction_count < account.transaction_count:
                missing.append((account, arrived.transaction_count))
        for start in range(0, len(missing), _AT_ONCE):
            users = missing[start : start + _AT_ONCE]
            # The first page of each history at the same time, what is longer one by one.
            firsts = await _gather(lambda one: _page(source, one[0], one[1]), users)
            for (account, behind), first in zip(users, firsts, strict=True):
                transactions = first
                while transactions:
                    batch += transactions
                    if len(batch) >= MAX_PAGE:
                        await _append(target, batch)
                        appended, done = appended + len(batch), done + len(batch)
                        step("copying", done, total)
                        batch = []
                    behind = transactions[-1].sequence  # noqa: PLW2901  # where this history goes on
                    transactions = await _page(source, account, behind)
        if batch:
            await _append(target, batch)
            appended, done = appended + len(batch), done + len(batch)
        step("copying", done, total)
    return appended


async def _append(target: Store, transactions: Sequence[Transaction]) -> None:
    try:
        await target.append(transactions)
    except ValueError as error:
        raise CopyError(
            f"The target does not hold the beginning of this ledger. {error} Name an empty target."
        ) from error


async def _verify(source: Store, target: Store, total: int, appended: int, step: Step) -> Copied:
    """Compare every account and every transaction, and require that there is nothing else."""
    accounts = transactions = balance = 0
    step("verifying", 0, total)
    async for page in _pages(source):
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
            step("verifying", transactions, total)
    there, tokens = 0, 0
    async for account in _accounts(target):
        there += 1
        tokens += account.balance
    if (there, tokens) != (accounts, balance):
        raise CopyError(
            f"The source has {accounts} accounts and the target {there}: it held others before."
            " Name an empty target."
        )
    return Copied(accounts, transactions, appended, balance)


async def _compare(source: Store, target: Store, account: Account) -> int:
    """Require that the histories of a user are the same, and return their length."""
    behind = balance = 0
    while behind < account.transaction_count:
        mine = await _page(source, account, behind)
        theirs = await _page(target, account, behind)
        if mine != theirs or not mine:
            raise _differs(account.user_id)
        behind = mine[-1].sequence
        balance += sum(one.amount for one in mine)
    if balance != account.balance:
        raise CopyError(f"The history of user '{account.user_id}' does not add up to the balance.")
    return behind


async def _page(store: Store, account: Account, behind: int) -> list[Transaction]:
    """Read the transactions of a user that follow the place `behind`, oldest first."""
    last = min(behind + MAX_PAGE, account.transaction_count)
    found = (
        list(await store.history(account.user_id, last + 1, last - behind)) if last > behind else []
    )
    found.reverse()
    return found


async def _pages(store: Store) -> AsyncIterator[Sequence[Account]]:
    cursor = ""
    while True:
        page = await store.accounts(cursor, MAX_PAGE)
        yield page.accounts
        cursor = page.next_cursor
        if not cursor:
            return


async def _accounts(store: Store) -> AsyncIterator[Account]:
    async for page in _pages(store):
        for account in page:
            yield account


async def _gather(
    read: Callable[[_Item], Awaitable[_Result]], items: Sequence[_Item]
) -> list[_Result]:
    return list(await asyncio.gather(*(read(item) for item in items)))


def _differs(user_id: str) -> CopyError:
    return CopyError(
        f"The history of user '{user_id}' is not the same in both ledgers: the source was written"
        " to, or the target held something else. Stop what writes, and copy to an empty target."
    )
