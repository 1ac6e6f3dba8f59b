"""The interface of the stores. The comments here are the contract; one suite proves it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Protocol, Self, runtime_checkable

from msgspec import Struct

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.errors import CallError
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.outcomes import Outcome
from entitlements_server.ledger.values import Account, Charge, Transaction

MAX_PAGE = 1000
"""Most accounts or transactions per read."""


class StoreUnavailableError(CallError):
    """The ledger cannot be reached, or its disk is failing.

    After a write it is unknown whether the group was stored: a retry with the same idempotency keys
    settles that. Nothing that failed this way was acknowledged.

    Args:
        cause: For the log; not sent to callers.
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


class DamagedRecordError(CallError):
    """A stored record of the user cannot be read, or contradicts another. Nothing was written.

    Other users are served as ever.

    Args:
        user_id: Whose record it is; empty: that of many users.
        record: Where it is stored, for the operator: a table and row, or a key.
        problem: What is wrong with it, as the end of a sentence.
        sequence: Of the transaction; 0: it is not, or not only, a transaction.
    """

    reason = "RECORD_DAMAGED"
    code = "DATA_LOSS"
    remedy = (
        "Nothing was written, and sending it again does not help: give the operator the `reference`, which"
        " the log has with what to repair."
    )
    metadata_keys = ("reference",)

    def __init__(self, user_id: str, record: str, problem: str, sequence: int = 0) -> None:
        # The same for each call, so that one log line serves them all.
        reference = blake2b(f"{user_id} {record}".encode(), digest_size=6).hexdigest()
        super().__init__(
            "A stored record of this user is damaged and nothing was written: give the reference"
            f" {reference} to the operator, who has to repair it.",
            reference=reference,
        )
        self.args = (f"{record} of user '{user_id}': {problem}",)
        self.reference = reference
        self.user_id = user_id
        self.record = record
        self.problem = problem
        self.sequence = sequence


class StoreConfigurationError(ConfigurationError):
    """The store cannot be opened; the message says what to do."""


class StoreInUseError(StoreConfigurationError):
    """Another process is using the store."""


class DamagedLedgerError(StoreConfigurationError):
    """The ledger, or a backup of it, is damaged so that it cannot be opened, or it is no ledger."""


class BackupError(ConfigurationError):
    """The backup failed; the message says why. Nothing is left under its name."""


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """What tells a ledger from all others, whatever its file or server is called.

    Attributes:
        id: 32 hexadecimal digits, random, made with the ledger. A backup and a copy keep it.
        generation: 1 for a new ledger. Higher each time it was restored from a backup or copied to
            another store, as what was read before may no longer be true of it.
    """

    id: str
    generation: int

    @classmethod
    def new(cls) -> Self:
        """Return the identity of a new ledger."""
        return cls(token_hex(16), 1)

    @property
    def successor(self) -> Self:
        """The same ledger after it was restored or copied."""
        return replace(self, generation=self.generation + 1)


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Some accounts.

    Attributes:
        accounts: Those that could be read.
        next_cursor: Where the next page begins; empty after the last.
        damaged: Why the others could not be read. Whoever must not miss an account raises the first.
    """

    accounts: Sequence[Account]
    next_cursor: str
    damaged: Sequence[Exception] = ()


class Failed(Struct, frozen=True):
    """The part of this user failed, and no other's. Stands in place of the outcome of a command.

    Attributes:
        error: Why. Only after a StoreUnavailableError is it unknown whether the part was stored;
            after any other error nothing of it was.
    """

    error: Exception
    transactions: ClassVar[tuple[Transaction, ...]] = ()


CommandResult = Outcome | Failed
"""What became of a command."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in a ledger.

    Attributes:
        user_id: The user, or empty: it concerns the whole ledger.
        transaction_id: The transaction, or empty: it concerns the whole account.
        what: The problem, as the end of a sentence.
        is_warning: The ledger holds, but an operator should know.
    """

    user_id: str
    transaction_id: str
    what: str
    is_warning: bool = False

    def __str__(self) -> str:
        subject = f"user '{self.user_id}'" if self.user_id else "the ledger"
        if self.transaction_id:
            subject += f", transaction {self.transaction_id}"
        # A damaged or forged record may have names that move the cursor of a terminal.
        return _visible(f"{subject}: {self.what}")


def _visible(text: str) -> str:
    """Return a text with escapes in place of what cannot be printed."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class Progress(Protocol):
    """Reports the progress of a long task."""

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` steps are done."""


def silent(done: int, total: int) -> None:  # a Progress
    """Report nothing."""


class Store(Protocol):
    """A durable set of transactions.

    Every method may raise StoreUnavailableError. Methods may be called concurrently from one
    event loop. A cancelled call does no harm.

    **A damaged record fails its own user and nobody else.** A record is damaged if it cannot be
    decoded, is missing although others refer to it, or is stored under another user, key or sequence
    than its own. A store never guesses in its place, never takes it for absent and never writes over
    it. Reads of that user that need it raise DamagedRecordError, `commit` returns it for that user's
    commands, and `accounts` lists it beside the accounts that it could read. So may a record of a
    format that this version does not read, with a ForeignFormatError. An error of the disk or the
    server is no damaged record: it raises StoreUnavailableError.
    """

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        """Decide commands in order by `rule`, and make durable what it records.

        Returns when everything recorded is durable. Each user's part takes effect whole or not at
        all, on the state after all earlier commits. `rule` may be called more than once per
        command: only the last decision counts.

        The part of a user that fails is `Failed`, for each of its commands. An exception of `rule` is
        the error of a part, or is raised. If anything but StoreUnavailableError is raised, nothing
        was stored, so the group can be committed again without the commands that are to blame.
        """

    async def account(self, user_id: str) -> Account:
        """Read an account: an empty one if it has no transactions.

        Sees every commit that returned before this call began, as do the other reads.
        """

    def known_account(self, user_id: str) -> Account | None:
        """Return the newest durable account without waiting, or None if it must be read.

        Only a store that no other process writes to can know that an account is the newest. May
        be called from any thread.
        """

    async def bound(self, user_id: str, names: Collection[str]) -> Mapping[str, Charge]:
        """Read what idempotency keys and access windows of a user are bound to, and what was refunded of it.

        A name that is not bound is left out. `last_refund` may be left out, too.
        """

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """Read one transaction of a user by its sequence; None if there is none."""

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """Read the newest transactions of a user with sequences below `before`, newest first.

        `before` is 1 to 2^53. Returns `limit` (1 to MAX_PAGE) transactions, or all if there are fewer.
        Takes time proportional to `limit`, whatever the length of the history.
        """

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """Read the oldest transactions of a user with sequences above `after`, oldest first.

        `after` is 0 to 2^53. Returns `limit` (1 to MAX_PAGE) transactions, or all if there are fewer.
        Used to read a history of any length in bounded memory.
        """

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """Read the users for whom something is due, the longest due first.

        Args:
            until_us: The latest due time to include, microseconds since 1970 UTC.
            limit: Most users to return, 1 to MAX_PAGE.
        """

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """Read all accounts in some order, about `limit` (1 to MAX_PAGE) at a time.

        Start with an empty cursor and continue with `next_cursor` until it is empty. An account
        that exists from start to end is read exactly once, as it is at that call, or is `damaged`.
        """

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """Store transactions unchanged, each the next one of its user.

        For copying a ledger. Durable on return.

        Raises:
            ValueError: One of them cannot be the next one of its user. None was stored.
            DamagedRecordError: A user's record cannot be read. None of that user's was stored.
        """

    async def time_us(self) -> int | None:
        """Read the clock of a store that several servers may share, microseconds since 1970 UTC.

        None: only this process writes, so the clock of this machine counts.
        """

    async def newest_time_us(self) -> int:
        """Read when the newest transaction of the ledger was recorded, microseconds since 1970 UTC.

        0: there is none, or its record is damaged. Used at the start.
        """

    async def identity(self) -> LedgerIdentity:
        """Read the identity of the ledger. Made when the store is first opened, and durable."""

    async def adopt(self, identity: LedgerIdentity) -> None:
        """Replace the identity of the ledger. Durable on return.

        For copying and restoring a ledger: give it the `successor` of the original's identity.
        """

    async def ping(self) -> None:
        """Return if the store can be reached; raise otherwise."""

    async def close(self) -> None:
        """Finish the current work and release files, connections and locks.

        Does nothing when called again.
        """


@runtime_checkable
class SupportsSelfCheck(Protocol):
    """A store that keeps more than the histories, and can check that all of it agrees."""

    async def self_check(self) -> Sequence[Finding]:
        """Compare everything stored with the histories. Returns what is wrong."""


class SupportsBackup(Protocol):
    """A ledger that can be copied consistently while a server is writing to it."""

    @property
    def path(self) -> Path:
        """The file of the ledger."""

    def backup(self, target: Path, *, replace: bool = False, progress: Progress = silent) -> int:
        """Copy the ledger. The copy is on disk on return; if this raises, there is none.

        Args:
            target: The file to write. Its folder must exist.
            replace: Whether an existing file may be replaced.
            progress: Reports copied pages.

        Returns:
            The size of the copy in bytes.

        Raises:
            BackupError: The copy could not be made.
        """

    def put_in_place(self, backup: Path) -> Path | None:
        """Replace the ledger, or the missing ledger, by a file, which is moved. On disk on return.

        What was there is kept under another name, with what belongs to it. If this is interrupted, the
        ledger cannot be opened until it has been called again.

        Args:
            backup: A ledger that nobody has open, on the same file system.

        Returns:
            The file that was there, under its new name; None if there was none.

        Raises:
            BackupError: It could not be replaced.
            StoreInUseError: A server is using the ledger.
            StoreConfigurationError: The file there must not be moved; the message says why.
        """

    def url_of(self, backup: Path) -> str:
        """Return the store URL of a backup."""
