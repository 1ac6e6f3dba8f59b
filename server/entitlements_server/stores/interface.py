"""The interface of the stores. The comments here are the contract; one suite proves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.errors import CallError
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.values import Account, Transaction

MAX_PAGE = 1000
"""Most accounts or transactions that one read may ask for."""


class StoreUnavailableError(CallError):
    """The ledger cannot be reached, or its disk is failing.

    After a write it is unknown whether the group was stored: a retry under the same idempotency
    keys settles it. Nothing that failed this way was acknowledged.

    Args:
        cause: For the log; callers learn nothing of it.
    """

    reason = "STORE_UNAVAILABLE"
    code = "UNAVAILABLE"
    remedy = "Whether it took effect is unknown: send it again with the same key."

    def __init__(self, cause: str = "") -> None:
        super().__init__(
            "The ledger cannot be reached, so it is unknown whether the request took effect:"
            " send it again with the same idempotency key."
        )
        self.args = (cause,)


class StoreConfigurationError(ConfigurationError):
    """The store cannot be opened as it is named; the message says what to do."""


class StoreInUseError(StoreConfigurationError):
    """Another process has the store to itself."""


class BackupError(ConfigurationError):
    """There is no backup; the message says why. Nothing is left under its name."""


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some accounts, and the cursor that continues after them: empty when that was all."""

    accounts: Sequence[Account]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a ledger that does not hold.

    Attributes:
        user_id: Whose history, or empty: of the ledger as a whole.
        transaction_id: Which transaction, or empty: of the account as a whole.
        what: What is wrong, as the end of a sentence.
    """

    user_id: str
    transaction_id: str
    what: str

    def __str__(self) -> str:
        subject = f"user '{self.user_id}'" if self.user_id else "the file"
        if self.transaction_id:
            subject += f", transaction {self.transaction_id}"
        return f"{subject}: {self.what}"


class Progress(Protocol):
    """Takes note of how far a long task has come."""

    def __call__(self, done: int, total: int) -> None:
        """Take note: `done` of `total` steps."""


def silent(done: int, total: int) -> None:  # a Progress
    """Take no note."""


class Store(Protocol):
    """A durable set of transactions.

    Every method may raise StoreUnavailableError. Methods may be called concurrently from one
    event loop; a cancelled call does no harm.
    """

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """Decide commands in order by `rule`, and make what it records durable.

        Returns only when everything recorded is durable. Each user's part takes effect whole
        or not at all, on the state that all earlier commits left. `rule` may be called
        more often than there are commands: only the last decision counts. What `rule` raises
        passes through.
        """

    async def account(self, user_id: str) -> Account:
        """Read an account: an empty one if nobody wrote to it.

        Sees every commit that returned before this call began. So do the other reads.
        """

    def known_account(self, user_id: str) -> Account | None:
        """Return the newest durable account without waiting, or None: then call `account`.

        Only a store that this process has to itself knows an account to be the newest. May be
        called from any thread.
        """

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """Read the transaction of one sequence of a user's history, or None beyond its end."""

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """Read the newest transactions of a user with a sequence below `before`, newest first.

        `before` is 1 to 2^53. Returns `limit` (1 to MAX_PAGE) of them, or as many as there are.
        The time it takes depends on `limit` and not on the length of the history.
        """

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """Read the oldest transactions of a user with a sequence above `after`, oldest first.

        `after` is 0 to 2^53. Returns `limit` (1 to MAX_PAGE) of them, or as many as there are.
        So a history of any length can be read forward in little memory.
        """

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """Read to which users something is due, the one that is due for longest first.

        Args:
            until_us: The latest due time to look at, microseconds since 1970 UTC.
            limit: Most users to return: 1 to MAX_PAGE.
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


@runtime_checkable
class SupportsSelfCheck(Protocol):
    """A store that keeps more than the histories, and can check that it all agrees."""

    async def self_check(self) -> Sequence[Finding]:
        """Compare all that is stored with the histories. Returns what does not hold."""


class SupportsBackup(Protocol):
    """A ledger of which a consistent copy can be made while a server may be writing to it."""

    @property
    def path(self) -> Path:
        """The file that the ledger is in."""

    def backup(self, target: Path, *, replace: bool = False, progress: Progress = silent) -> int:
        """Copy the ledger. On return the copy is on disk under its name, or not at all.

        Args:
            target: Where the copy goes. Its folder must exist.
            replace: Whether a file of that name may be replaced.
            progress: Takes note of pages.

        Returns:
            Size of the copy in bytes.

        Raises:
            BackupError: It could not be made.
        """

    def url_of(self, backup: Path) -> str:
        """Return the URL that opens a backup as a store."""
