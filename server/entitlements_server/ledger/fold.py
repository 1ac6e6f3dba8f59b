"""What a transaction does to its account."""

from entitlements_server.ledger import settlement
from entitlements_server.ledger.chain import next_head
from entitlements_server.ledger.grants import grants_after
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.values import Account, Status, Transaction

_DENIED = Status.DENIED  # looked up only once: see values.py


def account_after(account: Account, transaction: Transaction, stored: bytes) -> Account:
    """Return the account after its next transaction.

    Args:
        account: The account before the transaction.
        transaction: Its next transaction.
        stored: The same transaction as it is stored.
    """
    salt = account.salt or transaction.salt
    grants = account.grants
    if transaction.draws:
        grants = grants_after(grants, transaction.draws, 1 if transaction.amount > 0 else -1)
    churn_minute = churn = 0
    if account.churn or transaction.status is _DENIED:
        churn_minute, churn = _churn_after(account, transaction)
    # Python is slow at passing many arguments by name.
    return Account(
        account.user_id,
        transaction.balance_after,
        transaction.sequence,
        account.create_time_us or transaction.create_time_us,
        transaction.create_time_us,
        grants,
        next_head(account.head, salt, stored),
        salt,
        settlement.due_after(account, grants),
        max(account.access_until_us, transaction.access_until_us),
        churn_minute,
        churn,
        account.carried,
    )


def minute_of(time_us: int) -> int:
    """Return the minute in which denials of a time are counted, minutes since 1970 UTC."""
    return time_us // (60 * SECOND_US)


def _churn_after(account: Account, transaction: Transaction) -> tuple[int, int]:
    minute = minute_of(transaction.decided_us)
    before = account.churn if account.churn_minute == minute else 0
    now = before + (transaction.status is _DENIED)
    return (minute, now) if now else (0, 0)
