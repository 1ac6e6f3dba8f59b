"""Accounts and transactions as they are stored: the format, a space, and the value as JSON."""

from entitlements_server.ledger.encoding import encode_account
from entitlements_server.ledger.state import Entry
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores import marked
from entitlements_server.stores.interface import DamagedRecordError
from entitlements_server.stores.marked import MARK


def write_account(account: Account) -> bytes:
    """Encode an account."""
    return b"%b %b" % (MARK, encode_account(account))


def read_account(user_id: str, state: bytes | None) -> Account:
    """Decode an account: an empty one if there is none.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is that of another user.
    """
    if not state:
        return Account(user_id)
    return marked.read_account(user_id, state, damaged_account)


def damaged_account(user_id: str, problem: str) -> DamagedRecordError:
    """Return the error about an account that cannot be read."""
    return DamagedRecordError(user_id, "the row of entitlements.accounts", problem)


def write_transaction(entry: Entry) -> bytes:
    """Encode a transaction."""
    return b"%b %b" % (MARK, entry.stored)


def read_transaction(user_id: str, sequence: int, body: bytes) -> Transaction:
    """Decode a transaction.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is not that of this user and sequence.
    """
    return marked.read_transaction(user_id, sequence, body, damaged_transaction)


def damaged_transaction(user_id: str, sequence: int, problem: str) -> DamagedRecordError:
    """Return the error about a transaction that cannot be read."""
    record = f"the row of entitlements.transactions with sequence {sequence}"
    return DamagedRecordError(user_id, record, problem, sequence)
