"""What is written under the keys: accounts, transactions and refunds as text.

An account or transaction is the format that it is written in, the id of the write that it is part of,
and the value as `ledger/encoding.py` writes it, with a space in between. So a server finds out about
a format that it can't read before it decides on that, and before it writes over it.
"""

from entitlements_server.ledger.encoding import (
    decode_account,
    decode_transaction,
    encode_account,
)
from entitlements_server.ledger.state import Entry
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.format import FORMAT, ForeignFormatError, parse

MARK = str(FORMAT)
"""What stands in front of everything that this version writes."""

_MARK = MARK.encode()


def write_account(account: Account, write_id: str) -> bytes:
    """Write an account. The write id is another for each write: equal texts mean nothing changed."""
    return b"%b %b %b" % (_MARK, write_id.encode(), encode_account(account))


def read_account(user_id: str, text: bytes | None) -> Account:
    """Read an account: an empty one if there is none.

    Raises:
        ForeignFormatError: It is of a format that this version can't read.
    """
    return decode_account(_value_of(text)) if text else Account(user_id)


def write_transaction(entry: Entry, write_id: str) -> bytes:
    """Write a transaction, with the id of the write that it is part of."""
    return b"%b %b %b" % (_MARK, write_id.encode(), entry.stored)


def read_transaction(text: bytes) -> Transaction:
    """Read a transaction.

    Raises:
        ForeignFormatError: It is of a format that this version can't read.
    """
    return decode_transaction(_value_of(text))


def write_id_of(text: bytes | None) -> str:
    """Return the write id of a written transaction, or '' if there is none."""
    return text.split(b" ", 2)[1].decode() if text else ""


def write_refund(refunded: int, last_sequence: int) -> str:
    """Write what was refunded of a charge, and by which refund last."""
    return f"{refunded} {last_sequence}"


def read_refund(text: bytes) -> tuple[int, int]:
    """Read what was refunded of a charge, and the sequence of the newest refund."""
    refunded, last = text.split(b" ")
    return int(refunded), int(last)


def write_change(user_id: str, first: int, last: int) -> str:
    """Write into the tail that a user's transactions of these sequences were recorded."""
    return f"{first} {last} {user_id}"


def _value_of(text: bytes) -> bytes:
    mark, _, rest = text.partition(b" ")
    if mark != _MARK:
        found = parse(mark.decode("ascii", "replace"))
        if found is None:
            raise ForeignFormatError("unknown")
        if not found.is_readable:
            raise ForeignFormatError(str(found))
    return rest.partition(b" ")[2]
