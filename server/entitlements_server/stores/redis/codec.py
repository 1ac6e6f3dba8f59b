"""The values under the keys: accounts, transactions and refunds as text.

The text of an account or transaction is its format, the id of its write, and the value as
`ledger/encoding.py` writes it, separated by spaces. So a server sees a format that it cannot read
before it decides on the value or overwrites it.
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
"""The prefix of everything that this version writes."""

_MARK = MARK.encode()


def write_account(account: Account, write_id: str) -> bytes:
    """Encode an account. Each write has another id, so equal texts mean that nothing changed."""
    return b"%b %b %b" % (_MARK, write_id.encode(), encode_account(account))


def read_account(user_id: str, text: bytes | None) -> Account:
    """Decode an account: an empty one if there is none.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
    """
    return decode_account(_value_of(text)) if text else Account(user_id)


def write_transaction(entry: Entry, write_id: str) -> bytes:
    """Encode a transaction with the id of its write."""
    return b"%b %b %b" % (_MARK, write_id.encode(), entry.stored)


def read_transaction(text: bytes) -> Transaction:
    """Decode a transaction.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
    """
    return decode_transaction(_value_of(text))


def write_id_of(text: bytes | None) -> str:
    """Return the write id in the text of a transaction, or '' without a text."""
    return text.split(b" ", 2)[1].decode() if text else ""


def write_refund(refunded: int, last_sequence: int) -> str:
    """Encode the total refunded of a charge and the sequence of its newest refund."""
    return f"{refunded} {last_sequence}"


def read_refund(text: bytes) -> tuple[int, int]:
    """Decode the total refunded of a charge and the sequence of its newest refund."""
    refunded, last = text.split(b" ")
    return int(refunded), int(last)


def write_change(user_id: str, first: int, last: int) -> str:
    """Encode an entry of the change feed: a user and the sequences recorded."""
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
