"""The port that every store is behind. The comments here are the contract; one suite proves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.values import Account, Transaction

MAX_PAGE = 1000
"""Most accounts or transactions that one read may ask for."""


class StoreUnavailableError(Exception):
    """The store cannot be reached, or its disk is failing.

    After a write it is unknown whether the group was stored: a retry under the same idempotency
    keys settles it. Nothing that failed this way was acknowledged.
    """


class StoreConfigurationError(Exception):
    """The store cannot be opened as it is named; the message says what to do."""


class StoreInUseError(StoreConfigurationError):
    """Another process has the store to itself."""


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some accounts, and the cursor that continues behind them: empty when that was all."""

    accounts: Sequence[Account]
    next_cursor: str


class Store(Protocol):
    """A durable set of transactions.

    Every method may raise StoreUnavailableError. Methods may be called concurrently from one
    event loop; a cancelled call does no harm.
    """

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """Decide commands in order by `rule`, and make what it records durable.

        Returns only when everything recorded is durable. Each user's part takes effect whole
        or not at all, on the state that all earlier commits left behind. `rule` may be called
        more often than there are commands: only the last decision counts. What `rule` raises
        passes through.
        """

    async def account(self, user_id: str) -> Account:
        """Read an account: an empty one if nobody wrote to it.

        Sees every commit that returned before this call began. So do the other reads.
        """

    def known_account(self, user_id: str) -> Account | None:
        """Return an account without waiting, if this process alone owns the ledger and knows it.

        Otherwise None: then `account` reads it. What is returned is durable and includes every commit that
        has returned. May be called from any thread.
        """

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """Read the transaction at one place of a user's history, or None beyond its end."""

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """Read the newest transactions of a user with a sequence below `before`, newest first.

        `before` is 1 to 2^53. Returns `limit` (1 to MAX_PAGE) of them, or as many as there are.
        The time it takes
        depends on `limit` and not on the length of the history.
        """

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """Read all accounts in some order, about `limit` (1 to MAX_PAGE) at a time.

        Start with an empty cursor and go on with `next_cursor` until it is empty. Every account
        that exists throughout is read exactly once. Balances are as of the call that reads them.
        """

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """Store transactions as they are, each the next one of its user's history.

        For copying a ledger and for restoring one. Durable on return.

        Raises:
            ValueError: One of them is not the next one of its user. None was stored.
        """

    async def ping(self) -> None:
        """Prove that the store can be reached: return if so."""

    async def close(self) -> None:
        """Finish what is under way and let go of files, connections and locks.

        May be called again, and then does nothing.
        """
