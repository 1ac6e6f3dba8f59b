"""The work of the writing thread: open and recover, commit a group, append a history. Blocking."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.state import (
    Entry,
    ReadSet,
    State,
    append_all,
    decide_group,
)
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores.format import FORMAT
from entitlements_server.stores.interface import (
    CommandResult,
    DamagedRecordError,
    Failed,
    StoreConfigurationError,
)
from entitlements_server.stores.sqlite import companions
from entitlements_server.stores.sqlite.database import Database
from entitlements_server.stores.sqlite.file_format import require_ledger
from entitlements_server.stores.sqlite.memtable import Change, by_user, numbered
from entitlements_server.stores.sqlite.wal_rewrite import rewrite_wal

_log = structlog.get_logger()


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
        damaged = database.prefetch(ReadSet.of_transactions(logged), state)
        fresh: list[Change] = []
        for position, transactions in groups:
            if is_newer:
                _require_known(path, state, transactions)
            for at, transaction in numbered(position, transactions):
                user_id = transaction.user_id
                if user_id in damaged:
                    # Its account stays as it is, but nothing of its history is lost.
                    stored = encode_transaction(transaction)
                    fresh.append((at, Entry(transaction, stored, Account(user_id))))
                elif transaction.sequence > state.account(user_id).transaction_count:
                    fresh.append((at, state.apply(transaction)))
        for error in damaged.values():
            _log.error(
                "A damaged record was found while the commit log was flushed. The history of its user is"
                " complete, but calls about that user fail until it is repaired.",
                reference=error.reference,
                user_id=error.user_id,
                record=error.record,
                problem=error.problem,
            )
        database.flush(by_user(fresh), state, damaged)
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


class Committed(NamedTuple):
    """What became of a group.

    Attributes:
        results: One for each command, in order.
        entries: Everything that was recorded, in order.
        position: Its position in the commit log; 0 if nothing was recorded.
    """

    results: Sequence[CommandResult]
    entries: Sequence[Entry]
    position: int


NewestCharge = Callable[[tuple[str, int]], Charge | None]
"""Returns what the memtable has of a charge, by user and sequence."""


def prefetch(
    database: Database, read_set: ReadSet, state: State, newest_charge: NewestCharge
) -> dict[str, DamagedRecordError]:
    """Add what is stored of `read_set` to `state`: see `Database.prefetch`.

    What keys are bound to may have been refunded since it was flushed.
    """
    damaged = database.prefetch(read_set, state)
    if read_set.keys:
        for (user_id, _), bound in state.keys.items():
            if (newer := newest_charge((user_id, bound.sequence))) is not None:
                state.charges[user_id, bound.sequence] = newer
    return damaged


def commit(
    writer: Database,
    commands: Sequence[Command],
    rule: Rule,
    state: State,
    read_set: ReadSet,
    *,
    newest_charge: NewestCharge,
) -> Committed:
    """Prefetch the rest of the read set, decide a group, and make it durable.

    Args:
        writer: The open file.
        commands: The group.
        rule: The rules.
        state: What is known of the group's read set; what is recorded is applied to it.
        read_set: The rest of the read set, to be read from the file.
        newest_charge: Returns what the memtable has of a charge.
    """
    damaged: Mapping[str, DamagedRecordError] = {}
    if read_set.users or read_set.keys or read_set.charges:
        damaged = prefetch(writer, read_set, state, newest_charge)
    sound = [one for one in commands if one.user_id not in damaged] if damaged else commands
    decided = decide_group(state, sound, rule)
    results: Sequence[CommandResult] = decided.outcomes
    if damaged:
        rest = iter(decided.outcomes)
        results = [
            Failed(damaged[one.user_id]) if one.user_id in damaged else next(rest)
            for one in commands
        ]
    if not decided.entries:
        return Committed(results, (), 0)
    position = writer.append_log([entry.stored for entry in decided.entries])
    writer.checkpoint_if_due()
    return Committed(results, decided.entries, position)


def append(writer: Database, transactions: Sequence[Transaction]) -> None:
    """Store transactions unchanged, durably. The commit log must be flushed.

    Raises:
        ValueError: One of them cannot be the next one of its user.
        DamagedRecordError: A user's records cannot be read. Nothing was stored.
    """
    state = State()
    damaged = writer.prefetch(ReadSet.of_transactions(transactions), state)
    for error in damaged.values():
        raise error
    entries = append_all(state, transactions)
    position = writer.take_position(len(entries))
    writer.flush(by_user(numbered(position, entries)), state)
    writer.checkpoint_if_due()
