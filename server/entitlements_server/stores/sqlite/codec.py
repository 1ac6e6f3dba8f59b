"""Accounts and transactions as JSON, the input and output of statements."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, ValidationError

from entitlements_server.ledger.encoding import (
    decode_account,
    decode_transaction,
    encode_account,
)
from entitlements_server.ledger.limits import MAX_BALANCE
from entitlements_server.ledger.state import Entry, State
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores.sqlite.memtable import Change

_encode = msgspec.json.Encoder().encode
_read_accounts = msgspec.json.Decoder(list[tuple[str, int, Account]]).decode
_read_newer_accounts = msgspec.json.Decoder(list[tuple[str, int, Raw]]).decode
_read_keys = msgspec.json.Decoder(list[tuple[tuple[str, str], int, Raw, int, int, Raw]]).decode
_read_charges = msgspec.json.Decoder(list[tuple[tuple[str, int], Raw, int, int, Raw]]).decode
_NULL = b"null"

ACCOUNT_ROW = "the row in the table accounts"
"""Names the row of an account."""

read_due = msgspec.json.Decoder(list[tuple[int, str]]).decode
"""Decode a JSON array of [due time, user id]."""


read_numbers = msgspec.json.Decoder(list[int]).decode
"""Decode a JSON array of numbers."""

Numbers = Mapping[str, int]
"""The numbers of accounts, by user."""


def to_json(values: Any) -> str:
    """Encode values as JSON; stored values are inserted as `Raw`."""
    return _encode(values).decode()


def array_of(stored: Iterable[bytes]) -> str:
    """Return a JSON array of stored values."""
    return (b"[" + b",".join(stored) + b"]").decode()


class UnreadableError(ValueError):
    """A row cannot be decoded, or contradicts another.

    Args:
        record: Which row.
        problem: What is wrong, as the end of a sentence.
    """

    def __init__(self, record: str, problem: str) -> None:
        super().__init__(f"{record}: {problem}")
        self.record = record
        self.problem = problem


def row_of(sequence: int) -> str:
    """Name the row of a transaction."""
    return f"row {sequence} of the table transactions"


def read_accounts(rows: str) -> list[Account]:
    """Decode the accounts in the result of `prefetch.sql` or `accounts.sql`.

    Raises:
        ValueError, AssertionError, RecursionError: A row cannot be decoded.
    """
    try:
        named = _read_accounts(rows)
    except ValidationError:
        named = [
            (user_id, count, decode_account(stored))
            for user_id, count, stored in _read_newer_accounts(rows)
        ]
    for user_id, count, account in named:
        check_account(user_id, count, account)
    return [account for _, _, account in named]


def check_account(user_id: str, count: int, account: Account) -> None:
    """Require that an account is that of its row.

    Raises:
        UnreadableError: It is not, or its values are impossible.
    """
    if account.user_id != user_id or account.transaction_count != count:
        raise UnreadableError(ACCOUNT_ROW, "it has the account of another user or count")
    if count < 1 or not 0 <= account.balance <= MAX_BALANCE:
        raise UnreadableError(ACCOUNT_ROW, f"its balance is {account.balance}, its count {count}")


def read_into(state: State, accounts: str, keys: str, charges: str) -> None:
    """Add the result of `prefetch.sql` to a state. If it raises, the state is incomplete.

    Raises:
        ValueError, AssertionError, RecursionError: A row cannot be decoded.
    """
    for account in read_accounts(accounts):
        state.accounts[account.user_id] = account
    for key, sequence, stored, refunded, last, last_stored in _read_keys(keys):
        bound = _transaction(key[0], sequence, stored)
        if key[1] not in bound.names:
            raise UnreadableError(
                row_of(sequence), "an idempotency key is bound to it, not its own"
            )
        state.keys[key] = bound
        refund = _transaction(key[0], last, last_stored) if last else None
        state.charges[key[0], sequence] = Charge(bound, refunded, refund)
    for (user_id, sequence), stored, refunded, last, last_stored in _read_charges(charges):
        charge = _transaction(user_id, sequence, stored)
        refund = _transaction(user_id, last, last_stored) if last else None
        state.charges[user_id, sequence] = Charge(charge, refunded, refund)


def _transaction(user_id: str, sequence: int, stored: Raw) -> Transaction:
    """Decode a transaction, and require that it is that of its row."""
    if bytes(stored) == _NULL:
        raise UnreadableError(row_of(sequence), "it is missing, and others refer to it")
    try:
        transaction = decode_transaction(stored)
    except Exception as error:
        raise UnreadableError(row_of(sequence), repr(error)) from error
    if transaction.user_id != user_id or transaction.sequence != sequence:
        raise UnreadableError(
            row_of(sequence), "it has the transaction of another user or sequence"
        )
    return transaction


def account_rows(accounts: Iterable[Account]) -> Sequence[Any]:
    """Return the rows for `flush_accounts.sql`."""
    return [(one.user_id, one.transaction_count, Raw(encode_account(one))) for one in accounts]


def transaction_rows(changes: Iterable[Change], numbers: Numbers) -> Sequence[Any]:
    """Return the rows for `flush_transactions.sql` and `flush_changes.sql`."""
    rows = []
    start = 1
    for position, entry in changes:
        transaction, size = entry.transaction, len(entry.stored)
        rows.append((numbers[transaction.user_id], transaction.sequence, position, start, size))
        start += size
    return rows


def key_rows(entries: Iterable[Entry], numbers: Numbers) -> Sequence[Any]:
    """Return the rows for `flush_keys.sql`."""
    return [
        (numbers[one.user_id], name, one.sequence)
        for one in (entry.transaction for entry in entries)
        for name in one.names
    ]


def refund_rows(entries: Iterable[Entry], numbers: Numbers) -> Sequence[Any]:
    """Return the rows for `flush_refunds.sql`: the totals after each refund. The last one wins."""
    rows = []
    for entry in entries:
        if (charge := entry.refunded) is not None:
            assert charge.last_refund is not None
            key = (numbers[entry.account.user_id], charge.transaction.sequence)
            rows.append((*key, charge.refunded, charge.last_refund.sequence))
    return rows
