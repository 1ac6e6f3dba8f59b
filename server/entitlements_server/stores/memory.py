"""`memory://`: a ledger that ends with its process. For tests and trials."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import Entry, ReadSet, State, append_all, decide_group
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores.interface import AccountPage, CommandResult, LedgerIdentity


class MemoryStore:
    """Keeps one state for good.

    No method awaits anything, so the event loop never interleaves them and no lock is needed.
    """

    def __init__(self) -> None:
        self._state = State()
        self._identity = LedgerIdentity.new()
        # The change feed: user and sequence of each transaction, in commit order.
        self._changes: list[tuple[str, int]] = []

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        """See Store. Nothing is decoded, so what fails is raised."""
        # Decided on a copy, so that a rule that raises changes nothing.
        state = self._state.select(ReadSet.of(commands))
        decided = decide_group(state, commands, rule)
        self._keep(state, decided.entries)
        return decided.outcomes

    async def account(self, user_id: str) -> Account:
        """See Store."""
        return self._state.account(user_id)

    def known_account(self, user_id: str) -> Account | None:
        """See Store."""
        return self._state.account(user_id)

    async def bound(self, user_id: str, names: Collection[str]) -> Mapping[str, Charge]:
        """See Store."""
        found = {name: self._state.keys.get((user_id, name)) for name in names}
        return {
            name: self._state.charges[user_id, one.sequence]
            for name, one in found.items()
            if one is not None
        }

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

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        last = min(after + limit, self._state.account(user_id).transaction_count)
        charges = self._state.charges
        return [charges[user_id, one].transaction for one in range(after + 1, last + 1)]

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """See Store."""
        due = self._state.due.items()
        found = nsmallest(limit, ((at, user) for user, at in due if 0 < at <= until_us))
        return [user_id for _, user_id in found]

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
        state = self._state.select(ReadSet.of_transactions(transactions))
        self._keep(state, append_all(state, transactions))

    async def time_us(self) -> int | None:
        """See Store."""
        return None

    async def newest_time_us(self) -> int:
        """See Store."""
        return max((one.update_time_us for one in self._state.accounts.values()), default=0)

    async def identity(self) -> LedgerIdentity:
        """See Store."""
        return self._identity

    async def adopt(self, identity: LedgerIdentity) -> None:
        """See Store."""
        self._identity = identity

    async def ping(self) -> None:
        """See Store. Memory is always there."""

    async def close(self) -> None:
        """See Store. There is nothing to release."""

    def _keep(self, state: State, entries: Sequence[Entry]) -> None:
        self._state.update(state)
        self._changes += [(one.account.user_id, one.transaction.sequence) for one in entries]
