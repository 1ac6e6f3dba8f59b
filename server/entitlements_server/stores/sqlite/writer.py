"""What the writing thread does: open and recover, commit a group, append a history. Blocking."""

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
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.memtable import Change, by_user, numbered
from entitlements_server.stores.sqlite.wal_rewrite import rewrite_wal


def recover(path: Path, vfs: str | None, *, create: bool) -> Database:
    """Open the file and flush what its commit log still holds.

    Raises:
        StoreConfigurationError: The file is no ledger that this program can use.
        apsw.Error: It cannot be opened, read or written.
        OSError: Likewise.
    """
    rewrite_wal(path)
    database = Database(path, create=create, vfs=vfs)
    try:
        database.migrate(path)
        database.checkpoint()
        groups = database.read_log()
        logged = [transaction for _, transactions in groups for transaction in transactions]
        state = State()
        database.prefetch(ReadSet.of_transactions(logged), state)
        fresh: list[Change] = []
        for position, transactions in groups:
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


def commit(
    writer: Database, commands: Sequence[Command], rule: Rule, state: State, read_set: ReadSet
) -> tuple[Decided, int]:
    """Prefetch what is still unknown, decide, and make it durable.

    Args:
        writer: The open file.
        commands: The group.
        rule: What decides.
        state: What is known of the group's read set; takes in what is recorded.
        read_set: What is not known yet.

    Returns:
        What was decided, and the position in the commit log: 0 if nothing was recorded.
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
    """Store transactions as they are, durably. The commit log has to be flushed.

    Raises:
        ValueError: One of them is not the next one of its user.
    """
    state = State()
    writer.prefetch(ReadSet.of_transactions(transactions), state)
    entries = append_all(state, transactions)
    position = writer.take_position(len(entries))
    writer.flush(by_user(numbered(position, entries)), state)
    writer.checkpoint_if_due()
