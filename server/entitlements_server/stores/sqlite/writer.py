"""The work of the writing thread: open and recover, commit a group, append a history. Blocking."""

from collections.abc import Sequence
from pathlib import Path

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import (
    Decided,
    ReadSet,
    State,
    append_all,
    decide_group,
)
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.format import FORMAT
from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.sqlite import companions
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.file_format import require_ledger
from entitlements_server.stores.sqlite.memtable import Change, by_user, numbered
from entitlements_server.stores.sqlite.wal_rewrite import rewrite_wal


def recover(path: Path, vfs: str | None, header: bytes) -> Database:
    """Open the file and flush its commit log.

    Args:
        path: The file, which exists. An empty one becomes a ledger.
        vfs: Name of the apsw VFS to use.
        header: The first 100 bytes of the file.

    Raises:
        StoreConfigurationError: The file is not a ledger that this version can use.
        apsw.Error: It cannot be opened, read or written.
        OSError: Likewise.
    """
    if not header:
        # Its name first: a write-ahead log without its file would keep the next start from opening.
        companions.sync_folder(path.parent)
    require_ledger(path, vfs, header)
    rewrite_wal(path)
    database = Database(path, vfs=vfs)
    try:
        is_newer = database.migrate(path) > FORMAT
        database.checkpoint_without_waiting()
        groups = database.read_log()
        logged = [transaction for _, transactions in groups for transaction in transactions]
        state = State()
        database.prefetch(ReadSet.of_transactions(logged), state)
        fresh: list[Change] = []
        for position, transactions in groups:
            if is_newer:
                _require_known(path, state, transactions)
            fresh += [
                (at, state.apply(transaction))
                for at, transaction in numbered(position, transactions)
                if transaction.sequence > state.account(transaction.user_id).transaction_count
            ]
        database.flush(by_user(fresh), state)
        if groups:
            database.trim_log(groups[-1][0])
    except BaseException:
        database.close()
        raise
    return database


def _require_known(path: Path, state: State, transactions: Sequence[Transaction]) -> None:
    """Reject unflushed transactions of a newer version: what they do is for that version to say."""
    if any(
        one.carried or not one.kind.is_known or not one.status.is_known
        for one in transactions
        if one.sequence > state.account(one.user_id).transaction_count
    ):
        raise StoreConfigurationError(
            f"A newer version wrote to the ledger {path} and was killed; its newest transactions are in"
            " the commit log, and this version cannot apply them. Nothing was changed. Start the newer"
            " version once and stop it, then start this one."
        )


def commit(
    writer: Database, commands: Sequence[Command], rule: Rule, state: State, read_set: ReadSet
) -> tuple[Decided, int]:
    """Prefetch the rest of the read set, decide a group, and make it durable.

    Args:
        writer: The open file.
        commands: The group.
        rule: The rules.
        state: What is known of the group's read set; what is recorded is applied to it.
        read_set: The rest of the read set, to be read from the file.

    Returns:
        The decisions, and their position in the commit log: 0 if nothing was recorded.
    """
    if read_set.users or read_set.keys or read_set.charges:
        writer.prefetch(read_set, state)
    decided = decide_group(state, commands, rule)
    if not decided.entries:
        return decided, 0
    position = writer.append_log([entry.stored for entry in decided.entries])
    writer.checkpoint_if_due()
    return decided, position


def append(writer: Database, transactions: Sequence[Transaction]) -> None:
    """Store transactions unchanged, durably. The commit log must be flushed.

    Raises:
        ValueError: One of them cannot be the next one of its user.
    """
    state = State()
    writer.prefetch(ReadSet.of_transactions(transactions), state)
    entries = append_all(state, transactions)
    position = writer.take_position(len(entries))
    writer.flush(by_user(numbered(position, entries)), state)
    writer.checkpoint_if_due()
