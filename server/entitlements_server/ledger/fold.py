"""From one account to the next: what a transaction makes of it."""

from entitlements_server.ledger import settlement
from entitlements_server.ledger.chain import next_head
from entitlements_server.ledger.values import Account, Transaction


def account_after(account: Account, transaction: Transaction, stored: bytes) -> Account:
    """Return what `account` is once `transaction`, its next one, is recorded.

    Args:
        account: Before it.
        transaction: The next one.
        stored: It, as stores keep it.
    """
    salt = account.salt or transaction.salt
    return Account(
        account.user_id,
        transaction.balance_after,
        transaction.sequence,
        account.create_time_us or transaction.create_time_us,
        transaction.create_time_us,
        next_head(account.head, salt, stored),
        salt,
        settlement.due_after(account, transaction),
        account.carried,
    )
