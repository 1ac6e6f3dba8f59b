"""What lapses by itself as time passes. Nothing does yet: this is where it goes.

An account is stored as its newest transaction left it. What lapsed since is taken in where it is
looked at: `settled` for answers, and a decision records what it settled before its own transaction.
"""

from entitlements_server.ledger.values import Account, Transaction


def settled(account: Account, now_us: int) -> Account:  # noqa: ARG001  # nothing lapses yet
    """Return the account once everything that lapsed by now is taken in.

    Every answer about an account is computed on this.

    Args:
        account: As it is stored.
        now_us: The time, microseconds since 1970 UTC.
    """
    return account


def due_after(account: Account, transaction: Transaction) -> int:  # noqa: ARG001  # likewise
    """Return when something of an account lapses next, once its next transaction is recorded.

    Microseconds since 1970 UTC; 0: never.
    """
    # Nothing that this version records changes what a newer one noted.
    return account.due_us
