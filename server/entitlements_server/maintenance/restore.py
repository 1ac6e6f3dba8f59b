"""Puts a backup in the place of a ledger."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.maintenance.paging import account_pages
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.factory import ledger_backup, open_store
from entitlements_server.stores.interface import (
    BackupError,
    DamagedLedgerError,
    DamagedRecordError,
    Finding,
    LedgerIdentity,
    Progress,
    StoreConfigurationError,
    StoreInUseError,
    StoreUnavailableError,
    SupportsBackup,
    silent,
)

MAX_FINDINGS = 100
"""Findings after which checking a backup ends."""


class DamagedBackupError(ConfigurationError):
    """The backup is damaged. Nothing was changed.

    Attributes:
        findings: What is wrong.
    """

    def __init__(self, backup: Path, findings: Sequence[Finding]) -> None:
        super().__init__(
            f"The backup {backup} is damaged: {len(findings)} things do not hold. The ledger was not"
            " changed. Restore another backup."
        )
        self.findings = findings


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore.

    Attributes:
        accounts: Accounts in the ledger now.
        transactions: Transactions in it.
        newest_us: Time of the newest one, microseconds since 1970 UTC; 0 if there are none.
        identity: The identity of the ledger from now on.
        replaced: Where the ledger is that was there before; None if there was none.
    """

    accounts: int
    transactions: int
    newest_us: int
    identity: LedgerIdentity
    replaced: Path | None


async def restore(
    url: str, backup: Path, progress: Progress = silent, *, other: bool = False
) -> Restored:
    """Check a backup, and put a copy of it in the place of a ledger.

    The ledger gets a new generation, so that cursors and checkpoints from before can tell that it is not
    what it was. The backup is left as it is, and the old ledger is kept under another name.

    Args:
        url: The URL of the ledger's store.
        backup: The backup.
        progress: Reports transactions.
        other: Also replace a ledger that the backup is not of.

    Raises:
        DamagedBackupError: It cannot be opened, or `verify` has found something. Nothing was changed.
        BackupError: The backup cannot be read, or the ledger cannot be replaced.
        StoreInUseError: A server is using the ledger, or another restore runs.
        StoreConfigurationError: The store is none that has backups, or cannot be used; or the backup is
            of another ledger.
    """
    try:
        return await _restore(url, backup, progress, other=other)
    except OSError as error:
        raise BackupError(
            f"Nothing was restored from {backup}, and nothing changed: {error}."
        ) from error
    except StoreUnavailableError as error:
        cause = error.__cause__ or error
        raise BackupError(
            f"The copy of {backup} could not be read or written ({cause}). Nothing was changed."
        ) from error


async def _restore(url: str, backup: Path, progress: Progress, *, other: bool) -> Restored:
    ledger, source = _files(url, backup)
    folder = ledger.path.resolve().parent
    old = await _identity_of(ledger)
    # In the same folder, so that it can be moved into place whole.
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as scratch:
        copy = Path(scratch) / ledger.path.name
        try:
            source.backup(copy)
            store = await open_store(ledger.url_of(copy))
        except DamagedLedgerError as error:
            what = str(error).replace(str(copy), str(backup))
            raise DamagedBackupError(backup, [Finding("", "", what)]) from error
        except StoreConfigurationError as error:
            what = str(error).replace(str(copy), str(backup))
            raise BackupError(f"The backup {backup} cannot be used. {what}") from error
        try:
            findings = []
            async for finding in verify(store, progress):
                if finding.is_warning:
                    continue
                findings.append(finding)
                if len(findings) == MAX_FINDINGS:
                    break
            if findings:
                raise DamagedBackupError(backup, findings)
            accounts = transactions = newest_us = 0
            async for page in account_pages(store):
                accounts += len(page.accounts)
                transactions += sum(one.transaction_count for one in page.accounts)
                newest_us = max([newest_us, *(one.update_time_us for one in page.accounts)])
            identity = await store.identity()
            if old is not None and old.id != identity.id and not other:
                raise StoreConfigurationError(
                    f"{backup} is a backup of ledger {identity.id}, and {ledger.path} is ledger {old.id}."
                    " Nothing was changed. Name the right store or backup, or add --other to replace the"
                    " ledger."
                )
            identity = _following(identity, old)
            await store.adopt(identity)
        finally:
            await store.close()
        replaced = ledger.put_in_place(copy)
    return Restored(accounts, transactions, newest_us, identity, replaced)


def _files(url: str, backup: Path) -> tuple[SupportsBackup, SupportsBackup]:
    """Return the ledger and the backup."""
    ledger = ledger_backup(url)
    if ledger is None:
        raise StoreConfigurationError(
            "The store is no SQLite file: Redis restores its own backups, and a ledger in memory has"
            " none."
        )
    if not backup.is_file():
        what = "is no file" if backup.exists() else "is not there"
        raise BackupError(f"The backup {backup} {what}. Nothing was changed.")
    if ledger.path.exists() and ledger.path.samefile(backup):
        raise StoreConfigurationError(f"{backup} is the ledger itself: name a backup of it.")
    folder = ledger.path.resolve().parent
    if not folder.is_dir():
        raise StoreConfigurationError(f"There is no folder {folder}: make it first.")
    source = ledger_backup(ledger.url_of(backup.absolute()))
    assert source is not None
    return ledger, source


def _following(backup: LedgerIdentity, old: LedgerIdentity | None) -> LedgerIdentity:
    """Return an identity that this ledger has never had."""
    if old is not None and old.id == backup.id:
        return max(backup, old, key=lambda one: one.generation).successor
    # It may have been restored before, any number of times. Never once a second.
    return LedgerIdentity(backup.id, max(backup.generation + 1, int(time.time())))


async def _identity_of(ledger: SupportsBackup) -> LedgerIdentity | None:
    """Return the identity of the ledger that is replaced; None if there is none, or it cannot be read."""
    if not ledger.path.exists():
        return None
    try:
        store = await open_store(ledger.url_of(ledger.path))
    except StoreInUseError:
        raise
    except StoreConfigurationError:
        return None
    try:
        return await store.identity()
    except (StoreUnavailableError, DamagedRecordError):
        return None
    finally:
        await store.close()
