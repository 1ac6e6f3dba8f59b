"""What a transaction does to its account."""

from entitlements_server.ledger import settlement
from entitlements_server.ledger.chain import next_head
from entitlements_server.ledger.values import Account, Transaction


def account_after(account: Account, transaction: Transaction, stored: bytes) -> Account:
    """Return the account after its next transaction.

    Args:
        account: The account before the transaction.
        transaction: Its next transaction.
        stored: The same transaction as it is stored.
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
