"""Accounts and transactions as rows of plain values, for stores that write JSON."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from entitlements_server.ledger.values import Account, Kind, Status, Transaction

FIELDS = tuple(field.name for field in fields(Transaction))
"""The order of a row. Stored rows have it: a new field may only be added at the end."""

to_row: Callable[[Transaction], tuple[Any, ...]] = attrgetter(*FIELDS)
"""Turn a transaction into a row."""

to_account_row: Callable[[Account], tuple[Any, ...]] = attrgetter(
    *(field.name for field in fields(Account))
)
"""Turn an account into a row: `Account(*row)` turns it back."""

_KIND, _STATUS = FIELDS.index("kind"), FIELDS.index("status")


def from_row(row: Sequence[Any]) -> Transaction:
    """Turn a row back into the transaction."""
    values = list(row)
    values[_KIND] = Kind(values[_KIND])
    values[_STATUS] = Status(values[_STATUS])
    return Transaction(*values)
