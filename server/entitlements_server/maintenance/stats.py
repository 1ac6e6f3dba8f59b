"""Figures of a ledger."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.values import Account, Kind, Status, Transaction
from entitlements_server.maintenance.paging import account_pages, count_transactions, oldest_first
from entitlements_server.stores.interface import Progress, Store, silent

_DAY_US = 86_400 * SECOND_US


@dataclass(slots=True)
class Stats:
    """Figures of a ledger. Amounts are totals, in tokens.

    Attributes:
        accounts: Number of accounts.
        transactions: Number by kind and status, as `KIND STATUS`.
        tokens_held: Sum of all balances.
        tokens_available: Of these, what can be spent: those that have not expired.
        tokens_in_grants: Of these, what expires at some time.
        tokens_expiring_in_1_day: Of these, what expires within a day.
        tokens_expiring_in_7_days: Within seven days, the first included.
        tokens_expiring_in_30_days: Within thirty days, the first seven included.
        tokens_consumed: Tokens charged.
        tokens_refunded: Tokens given back.
        tokens_topped_up: Tokens added by top-ups.
        tokens_adjusted: Net change by setting balances.
        tokens_expired: Tokens recorded as expired. What has expired and is not recorded yet is held
            and not available.
        charges: Successful charges, by feature.
        denials: Denied charges, by feature.
    """

    accounts: int = 0
    transactions: Counter[str] = field(default_factory=Counter)
    tokens_held: int = 0
    tokens_available: int = 0
    tokens_in_grants: int = 0
    tokens_expiring_in_1_day: int = 0
    tokens_expiring_in_7_days: int = 0
    tokens_expiring_in_30_days: int = 0
    tokens_consumed: int = 0
    tokens_refunded: int = 0
    tokens_topped_up: int = 0
    tokens_adjusted: int = 0
    tokens_expired: int = 0
    charges: Counter[str] = field(default_factory=Counter)
    denials: Counter[str] = field(default_factory=Counter)

    def add_account(self, account: Account, now_us: int) -> None:
        """Count an account, as it is at a time, microseconds since 1970 UTC."""
        spendable = settled(account, now_us)
        self.accounts += 1
        self.tokens_held += account.balance
        self.tokens_available += spendable.balance
        for grant in spendable.grants:
            self.tokens_in_grants += grant.amount
            left_us = grant.expire_time_us - now_us
            self.tokens_expiring_in_1_day += grant.amount * (left_us <= _DAY_US)
            self.tokens_expiring_in_7_days += grant.amount * (left_us <= 7 * _DAY_US)
            self.tokens_expiring_in_30_days += grant.amount * (left_us <= 30 * _DAY_US)

    def add(self, transaction: Transaction) -> None:
        """Count a transaction."""
        self.transactions[f"{transaction.kind.name} {transaction.status.name}"] += 1
        match transaction.kind, transaction.status:
            case Kind.CONSUME, Status.SUCCESS:
                self.charges[transaction.feature] += 1
                self.tokens_consumed += transaction.cost
            case Kind.CONSUME, Status.DENIED:
                self.denials[transaction.feature] += 1
            case Kind.REFUND, _:
                self.tokens_refunded += transaction.amount
            case Kind.TOP_UP, _:
                self.tokens_topped_up += transaction.amount
            case Kind.ADJUSTMENT, _:
                self.tokens_adjusted += transaction.amount
            case Kind.EXPIRE, _:
                self.tokens_expired -= transaction.amount

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values, most common first."""
        return {
            name: dict(value.most_common()) if isinstance(value, Counter) else value
            for name in Stats.__slots__
            for value in (getattr(self, name),)
        }


async def stats(store: Store, progress: Progress = silent, *, now_us: int | None = None) -> Stats:
    """Compute the figures of a ledger.

    Args:
        store: The ledger. If it is in use, each history is read up to the account as first read.
        progress: Reports transactions.
        now_us: The time that expiries are compared with, microseconds since 1970 UTC; None: the clock of
            this machine.
    """
    at_us = time.time_ns() // 1000 if now_us is None else now_us
    total = await count_transactions(store)
    found = Stats()
    done = 0
    progress(done, total)
    async for page in account_pages(store):
        for account in page.accounts:
            found.add_account(account, at_us)
            async for transaction in oldest_first(store, account):
                found.add(transaction)
            done += account.transaction_count
            progress(done, max(done, total))
    return found
