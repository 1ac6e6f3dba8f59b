"""Records that begin with their format, on stores that several servers share.

A server that has run since before an upgrade sees a format that it cannot read before it decides on the
record or writes over it.
"""

from collections.abc import Callable

from entitlements_server.ledger.encoding import decode_account, decode_transaction
from entitlements_server.ledger.limits import MAX_BALANCE
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.format import FORMAT, ForeignFormatError, parse
from entitlements_server.stores.interface import DamagedRecordError

MARK = str(FORMAT).encode()
"""The format that this version writes."""

DamagedAccount = Callable[[str, str], DamagedRecordError]
"""Takes the user and the problem. Returns the error about an account."""

DamagedTransaction = Callable[[str, int, str], DamagedRecordError]
"""Takes the user, the sequence and the problem. Returns the error about a transaction."""


def read_account(
    user_id: str, stored: bytes, damaged: DamagedAccount, *, words: int = 0
) -> Account:
    """Decode the account of a user.

    Args:
        user_id: The user.
        stored: The format, then as many `words` of the store's own, then the value.
        damaged: Makes the error if it cannot be read.
        words: As the store writes.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is that of another user.
    """
    try:
        account = decode_account(_value_of(stored, words))
    except ForeignFormatError as error:
        error.user_id = user_id
        raise
    except Exception as error:
        raise damaged(user_id, repr(error)) from error
    if account.user_id != user_id:
        raise damaged(user_id, "it is the account of another user")
    if account.transaction_count < 1 or not 0 <= account.balance <= MAX_BALANCE:
        count = account.transaction_count
        raise damaged(user_id, f"its balance is {account.balance}, its count {count}")
    return account


def read_transaction(
    user_id: str, sequence: int, stored: bytes, damaged: DamagedTransaction, *, words: int = 0
) -> Transaction:
    """Decode a transaction of a user: see `read_account`.

    Raises:
        ForeignFormatError: Its format is one that this version cannot read.
        DamagedRecordError: It cannot be decoded, or is not that of this user and sequence.
    """
    try:
        transaction = decode_transaction(_value_of(stored, words))
    except ForeignFormatError as error:
        error.user_id = user_id
        raise
    except Exception as error:
        raise damaged(user_id, sequence, repr(error)) from error
    if transaction.user_id != user_id or transaction.sequence != sequence:
        raise damaged(user_id, sequence, "it is that of another user or sequence")
    return transaction


def _value_of(stored: bytes, words: int) -> bytes:
    mark, _, value = stored.partition(b" ")
    if mark != MARK:
        found = parse(mark.decode("ascii", "replace"))
        if found is None:
            raise ValueError("It does not begin with a format.")
        if not found.is_readable:
            raise ForeignFormatError(str(found))
    for _ in range(words):
        value = value.partition(b" ")[2]
    return value
