"""Accounts and transactions as they are stored: the format, a space, and the value as JSON.

So a server sees a format that it cannot read before it decides on the value or overwrites it.
"""

from entitlements_server.ledger.encoding import decode_account, decode_transaction, encode_account
from entitlements_server.ledger.limits import MAX_BALANCE
from entitlements_server.ledger.state import Entry
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.format import FORMAT, ForeignFormatError, parse
from entitlements_server.stores.interface import DamagedRecordError

_MARK = str(FORMAT).encode()


def write_account(account: Account) -> bytes:
    """Encode an account."""
    return b"%b %b" % (_MARK, encode_account(account))


def read_account(user_id: str, state: bytes | None) -> Account:
    """Decode an account: an empty one if there is none.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is that of another user.
    """
    if not state:
        return Account(user_id)
    try:
        account = decode_account(_value_of(state))
    except ForeignFormatError as error:
        error.user_id = user_id
        raise
    except Exception as error:
        raise damaged_account(user_id, repr(error)) from error
    if account.user_id != user_id:
        raise damaged_account(user_id, "it is the account of another user")
    if account.transaction_count < 1 or not 0 <= account.balance <= MAX_BALANCE:
        count = account.transaction_count
        raise damaged_account(user_id, f"its balance is {account.balance}, its count {count}")
    return account


def damaged_account(user_id: str, problem: str) -> DamagedRecordError:
    """Return the error about an account that cannot be read."""
    return DamagedRecordError(user_id, "the row of entitlements.accounts", problem)


def write_transaction(entry: Entry) -> bytes:
    """Encode a transaction."""
    return b"%b %b" % (_MARK, entry.stored)


def read_transaction(user_id: str, sequence: int, body: bytes) -> Transaction:
    """Decode a transaction.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is not that of this user and sequence.
    """
    try:
        transaction = decode_transaction(_value_of(body))
    except ForeignFormatError as error:
        error.user_id = user_id
        raise
    except Exception as error:
        raise damaged_transaction(user_id, sequence, repr(error)) from error
    if transaction.user_id != user_id or transaction.sequence != sequence:
        raise damaged_transaction(user_id, sequence, "it is that of another user or sequence")
    return transaction


def damaged_transaction(user_id: str, sequence: int, problem: str) -> DamagedRecordError:
    """Return the error about a transaction that cannot be read."""
    record = f"the row of entitlements.transactions with sequence {sequence}"
    return DamagedRecordError(user_id, record, problem, sequence)


def _value_of(stored: bytes) -> bytes:
    mark, _, value = stored.partition(b" ")
    if mark != _MARK:
        found = parse(mark.decode("ascii", "replace"))
        if found is None:
            raise ValueError("It does not begin with a format.")
        if not found.is_readable:
            raise ForeignFormatError(str(found))
    return value
