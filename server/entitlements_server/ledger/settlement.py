"""What lapses as time passes. Nothing does yet; this is where it will go.

An account is stored as its newest transaction left it. `settled` applies what has lapsed since. A
decision records that before its own transaction.
"""

from entitlements_server.ledger.values import Account, Transaction


def settled(account: Account, now_us: int) -> Account:  # noqa: ARG001  # nothing lapses yet
    """Return the account with everything applied that has lapsed by now.

    Every answer about an account is computed from this.

    Args:
        account: The stored account.
        now_us: The time, microseconds since 1970 UTC.
    """
    return account


def due_after(account: Account, transaction: Transaction) -> int:  # noqa: ARG001  # likewise
    """Return when something of the account lapses next, after its next transaction.

    Microseconds since 1970 UTC; 0: never.
    """
    # Nothing that this version records changes the due time that a newer one set.
    return account.due_us
