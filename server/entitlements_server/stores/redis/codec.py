"""The values under the keys: accounts, transactions and refunds as text.

The text of an account or transaction is its format, the id of its write, and the value as
`ledger/encoding.py` writes it, separated by spaces.
"""

from entitlements_server.ledger.encoding import encode_account
from entitlements_server.ledger.state import Entry
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores import marked
from entitlements_server.stores.interface import DamagedRecordError
from entitlements_server.stores.redis.schema import UserKeys


def write_account(account: Account, write_id: str) -> bytes:
    """Encode an account. Each write has another id, so equal texts mean that nothing changed."""
    return b"%b %b %b" % (marked.MARK, write_id.encode(), encode_account(account))


def read_account(user_id: str, text: bytes | None) -> Account:
    """Decode an account: an empty one if there is none.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is that of another user.
    """
    if not text:
        return Account(user_id)
    return marked.read_account(user_id, text, damaged_account, words=1)


def damaged_account(user_id: str, problem: str) -> DamagedRecordError:
    """Return the error about an account that cannot be read."""
    record = f"field {user_id!r} of the key {UserKeys(user_id).accounts}"
    return DamagedRecordError(user_id, record, problem)


def write_transaction(entry: Entry, write_id: str) -> bytes:
    """Encode a transaction with the id of its write."""
    return b"%b %b %b" % (marked.MARK, write_id.encode(), entry.stored)


def read_transaction(user_id: str, sequence: int, text: bytes) -> Transaction:
    """Decode a transaction.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is not that of this user and sequence.
    """
    return marked.read_transaction(user_id, sequence, text, damaged_transaction, words=1)


def damaged_transaction(user_id: str, sequence: int, problem: str) -> DamagedRecordError:
    """Return the error about a transaction that cannot be read."""
    chunk, index = UserKeys(user_id).index_of(sequence)
    record = f"transaction {sequence}, index {index} of the key {chunk}"
    return DamagedRecordError(user_id, record, problem, sequence)


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


def user_of_change(text: bytes) -> str:
    """Return the user of an entry of the change feed."""
    return text.split(b" ", 2)[2].decode(errors="replace")
