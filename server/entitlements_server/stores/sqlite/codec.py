"""Accounts and transactions as JSON arrays of plain values, for stores that write them so."""

from typing import Any

import msgspec

from entitlements_server.ledger.values import Account, Transaction

_encode = msgspec.json.Encoder().encode

read_accounts = msgspec.json.Decoder(list[Account]).decode
"""Read a JSON array of accounts."""

read_transactions = msgspec.json.Decoder(list[Transaction]).decode
"""Read a JSON array of transactions."""

read_charges = msgspec.json.Decoder(list[tuple[Transaction, int | None, Transaction | None]]).decode
"""Read a JSON array of transactions, what was refunded of each, and its newest refund, if any."""


def to_json(rows: Any) -> str:
    """Write accounts, transactions or plain values as JSON. An account is an array of its fields."""
    return _encode(rows).decode()
