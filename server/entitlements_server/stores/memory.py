"""`memory://`: a ledger that lives as long as its process. For tests and trials."""

from bisect import bisect_right
from collections.abc import Sequence

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import ReadSet, State, check_next, decide_group, recorded
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.interface import AccountPage


class MemoryStore:
    """Keeps one state for good.

    No method awaits anything, so the event loop runs each whole: that is the lock.
    """

    def __init__(self) -> None:
        self._state = State()

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """See Store."""
        # Decided on a copy of what it reads: a rule that raises half-way leaves nothing behind.
        outcomes = decide_group(self._state.select(ReadSet.of(commands)), commands, rule)
        for transaction in recorded(outcomes):
            self._state.apply(transaction)
        return outcomes

    async def account(self, user_id: str) -> Account:
        """See Store."""
        return self._state.account(user_id)

    def known_account(self, user_id: str) -> Account | None:
        """See Store."""
        return self._state.account(user_id)

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See Store."""
        charge = self._state.charges.get((user_id, sequence))
        return charge.transaction if charge else None

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        newest = min(before - 1, self._state.account(user_id).transaction_count)
        oldest = max(newest - limit, 0)
        charges = self._state.charges
        return [charges[user_id, one].transaction for one in range(newest, oldest, -1)]

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See Store. The cursor is the last user id read."""
        users = sorted(self._state.accounts)
        start = bisect_right(users, cursor) if cursor else 0
        page = users[start : start + limit]
        more = start + limit < len(users)
        accounts = [self._state.accounts[user_id] for user_id in page]
        return AccountPage(accounts, page[-1] if more else "")

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See Store."""
        check_next(self._state, transactions)
        for transaction in transactions:
            self._state.apply(transaction)

    async def ping(self) -> None:
        """See Store. Memory is always there."""

    async def close(self) -> None:
        """See Store. There is nothing to let go of."""
