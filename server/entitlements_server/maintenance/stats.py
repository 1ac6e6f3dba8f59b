"""Figures of a ledger."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.maintenance.paging import account_pages, count_transactions, oldest_first
from entitlements_server.stores.interface import Progress, Store, silent


@dataclass(slots=True)
class Stats:
    """Figures of a ledger. Amounts are totals, in tokens.

    Attributes:
        accounts: Number of accounts.
        transactions: Number by kind and status, as `KIND STATUS`.
        tokens_held: Sum of all balances.
        tokens_consumed: Tokens charged.
        tokens_refunded: Tokens given back.
        tokens_topped_up: Tokens added by top-ups.
        tokens_adjusted: Net change by setting balances.
        charges: Successful charges, by feature.
        denials: Denied charges, by feature.
    """

    accounts: int = 0
    transactions: Counter[str] = field(default_factory=Counter)
    tokens_held: int = 0
    tokens_consumed: int = 0
    tokens_refunded: int = 0
    tokens_topped_up: int = 0
    tokens_adjusted: int = 0
    charges: Counter[str] = field(default_factory=Counter)
    denials: Counter[str] = field(default_factory=Counter)

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

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values, most common first."""
        return {
            name: dict(value.most_common()) if isinstance(value, Counter) else value
            for name in Stats.__slots__
            for value in (getattr(self, name),)
        }


async def stats(store: Store, progress: Progress = silent) -> Stats:
    """Compute the figures of a ledger.

    Args:
        store: The ledger. If it is in use, each history is read up to the account as first read.
        progress: Reports transactions.
    """
    total = await count_transactions(store)
    found = Stats()
    done = 0
    progress(done, total)
    async for page in account_pages(store):
        for account in page.accounts:
            found.accounts += 1
            found.tokens_held += account.balance
            async for transaction in oldest_first(store, account):
                found.add(transaction)
            done += account.transaction_count
            progress(done, max(done, total))
    return found
