"""What the writing thread does: open and recover, commit a group, append a history. Blocking."""

from collections.abc import Sequence
from pathlib import Path

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import Needs, State, check_next, decide_group, recorded
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.unsynced import write_anew


def recover(path: Path, vfs: str | None, *, create: bool) -> Database:
    """Open the file and index what its journal still holds.

    Raises:
        StoreConfigurationError: The file is no ledger that this program can use.
        apsw.Error: It cannot be opened, read or written.
        OSError: Likewise.
    """
    write_anew(path)
    database = Database(path, create=create, vfs=vfs)
    try:
        database.migrate(path)
        database.checkpoint()
        position, transactions = database.read_journal()
        state = State()
        database.load(Needs.of_transactions(transactions), state)
        fresh = [
            transaction
            for transaction in transactions
            if transaction.sequence > state.account(transaction.user_id).transaction_count
        ]
        for transaction in fresh:
            state.apply(transaction)
        database.index(_by_user(fresh), state)
        database.trim_journal(position)
    except BaseException:
        database.close()
        raise
    return database


def decide_and_write(
    writer: Database, commands: Sequence[Command], rule: Rule, state: State, needs: Needs
) -> tuple[list[Outcome], int]:
    """Load what is still needed, decide, and make it durable.

    Args:
        writer: The open file.
        commands: The group.
        rule: What decides.
        state: What is known of the group's needs; takes in what is recorded.
        needs: What is not known yet.

    Returns:
        The outcomes, and the position in the journal: 0 if nothing was recorded.
    """
    if needs.users or needs.keys or needs.charges:
        writer.load(needs, state)
    outcomes = decide_group(state, commands, rule)
    transactions = recorded(outcomes)
    if not transactions:
        return outcomes, 0
    position = writer.write_journal(transactions)
    writer.checkpoint_if_due()
    return outcomes, position


def append(writer: Database, transactions: Sequence[Transaction]) -> None:
    """Index transactions as they are, durably. The journal has to be indexed.

    Raises:
        ValueError: One of them is not the next one of its user.
    """
    state = State()
    writer.load(Needs.of_transactions(transactions), state)
    check_next(state, transactions)
    for transaction in transactions:
        state.apply(transaction)
    writer.index(_by_user(transactions), state)
    writer.checkpoint_if_due()


def _by_user(transactions: Sequence[Transaction]) -> list[Transaction]:
    """Sort so that neighbours share pages."""
    return sorted(transactions, key=lambda one: (one.user_id, one.sequence))
