"""Accounts and transactions as JSON, the input and output of statements."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from entitlements_server.ledger.encoding import (
    decode_accounts,
    decode_transaction,
    encode_account,
)
from entitlements_server.ledger.state import Entry, State
from entitlements_server.ledger.values import Account, Charge
from entitlements_server.stores.sqlite.memtable import Change

_encode = msgspec.json.Encoder().encode
_read_keys = msgspec.json.Decoder(list[tuple[tuple[str, str], Raw]]).decode
_read_charges = msgspec.json.Decoder(list[tuple[Raw, int, Raw]]).decode
_NULL = b"null"

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


def read_into(state: State, accounts: str, keys: str, charges: str) -> None:
    """Add the result of `prefetch.sql` to a state."""
    for account in decode_accounts(accounts):
        state.accounts[account.user_id] = account
    for key, bound in _read_keys(keys):
        state.keys[key] = decode_transaction(bound)
    for named, refunded, last in _read_charges(charges):
        charge = decode_transaction(named)
        refund = None if bytes(last) == _NULL else decode_transaction(last)
        state.charges[charge.user_id, charge.sequence] = Charge(charge, refunded, refund)


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
        (numbers[one.user_id], one.idempotency_key, one.sequence)
        for one in (entry.transaction for entry in entries)
        if one.binds_key
    ]


def refund_rows(entries: Iterable[Entry], numbers: Numbers, state: State) -> Sequence[Any]:
    """Return the rows for `flush_refunds.sql`: the final totals."""
    rows = []
    for transaction in (entry.transaction for entry in entries):
        if transaction.refunded_transaction_id:
            charge = state.charge(transaction.user_id, transaction.refunded_transaction_id)
            assert charge is not None
            assert charge.last_refund is not None
            key = (numbers[transaction.user_id], charge.transaction.sequence)
            rows.append((*key, charge.refunded, charge.last_refund.sequence))
    return rows
