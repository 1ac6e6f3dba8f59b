"""What the writing thread does: open and recover, commit a group, append a history. Blocking."""

from collections.abc import Sequence
from pathlib import Path

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import ReadSet, State, check_next, decide_group, recorded
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.sqlite.database import Database
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
        position, transactions = database.read_log()
        state = State()
        database.prefetch(ReadSet.of_transactions(transactions), state)
        fresh = [
            transaction
            for transaction in transactions
            if transaction.sequence > state.account(transaction.user_id).transaction_count
        ]
        for transaction in fresh:
            state.apply(transaction)
        database.flush(_by_user(fresh), state)
        database.trim_log(position)
    except BaseException:
        database.close()
        raise
    return database


def commit(
    writer: Database, commands: Sequence[Command], rule: Rule, state: State, read_set: ReadSet
) -> tuple[list[Outcome], int]:
    """Prefetch what is still unknown, decide, and make it durable.

    Args:
        writer: The open file.
        commands: The group.
        rule: What decides.
        state: What is known of the group's read set; takes in what is recorded.
        read_set: What is not known yet.

    Returns:
        The outcomes, and the position in the commit log: 0 if nothing was recorded.
    """
    if read_set.users or read_set.keys or read_set.charges:
        writer.prefetch(read_set, state)
    outcomes = decide_group(state, commands, rule)
    transactions = recorded(outcomes)
    if not transactions:
        return outcomes, 0
    position = writer.append_log(transactions)
    writer.checkpoint_if_due()
    return outcomes, position


def append(writer: Database, transactions: Sequence[Transaction]) -> None:
    """Store transactions as they are, durably. The commit log has to be flushed.

    Raises:
        ValueError: One of them is not the next one of its user.
    """
    state = State()
    writer.prefetch(ReadSet.of_transactions(transactions), state)
    check_next(state, transactions)
    for transaction in transactions:
        state.apply(transaction)
    writer.flush(_by_user(transactions), state)
    writer.checkpoint_if_due()


def _by_user(transactions: Sequence[Transaction]) -> list[Transaction]:
    """Sort so that neighbours share pages."""
    return sorted(transactions, key=lambda one: (one.user_id, one.sequence))
