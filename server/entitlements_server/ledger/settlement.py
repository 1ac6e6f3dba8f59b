"""What lapses as time passes.

An account is stored as its newest transaction left it. `settled` applies what has lapsed since: every
answer is computed from that. That something has lapsed is recorded later, as an EXPIRE, in front of the
next transaction of its user, or by the sweeper.
"""

from msgspec.structs import replace

from entitlements_server.ledger.grants import lapsed_grants, open_grants, tokens
from entitlements_server.ledger.limits import MAX_GRANTS, SECOND_US
from entitlements_server.ledger.values import (
    Account,
    Draws,
    Kind,
    Status,
    Transaction,
)

DELAY_US = 60 * SECOND_US
"""How long after it has lapsed something is recorded at the soonest: until then a clock that ran ahead can be
put right, and nothing is lost."""


def settled(account: Account, now_us: int) -> Account:
    """Return the account with everything applied that has lapsed by now.

    Its balance is what can be spent.

    Args:
        account: The stored account.
        now_us: The time, microseconds since 1970 UTC.
    """
    if not account.grants or account.grants[0].expire_time_us > now_us:
        return account
    lapsed = tokens(lapsed_grants(account, now_us))
    return replace(account, balance=account.balance - lapsed, grants=open_grants(account, now_us))


def expiry(account: Account, now_us: int, *, at_once: bool) -> Transaction | None:
    """Return the EXPIRE to record in front of the next transaction, or None: nothing has lapsed.

    Args:
        account: The stored account.
        now_us: The time, microseconds since 1970 UTC.
        at_once: Whether to record what has lapsed only now. An account with as many grants as may be
            open does so in any case, which bounds its size.
    """
    if not account.grants:
        return None
    delay_us = 0 if at_once or len(account.grants) >= MAX_GRANTS else DELAY_US
    lapsed = lapsed_grants(account, now_us - delay_us)
    return _expire(account, lapsed, now_us) if lapsed else None


def _expire(account: Account, lapsed: Draws, now_us: int) -> Transaction:
    amount = -tokens(lapsed)
    time_us = max(now_us, account.update_time_us)
    return Transaction(
        account.transaction_count + 1,
        Kind.EXPIRE,
        Status.SUCCESS,
        amount=amount,
        balance_after=account.balance + amount,
        create_time_us=time_us,
        decision_time_us=now_us if now_us != time_us else 0,
        draws=lapsed,
        user_id=account.user_id,
    )


def due_after(account: Account, grants: Draws) -> int:
    """Return when something of the account lapses next, after its next transaction.

    Microseconds since 1970 UTC; 0: never.

    Args:
        account: The account before it.
        grants: The grants after it.
    """
    due_us = grants[0].expire_time_us if grants else 0
    if account.carried and account.due_us:
        # A newer version may know of something that lapses sooner.
        return min(account.due_us, due_us) if due_us else account.due_us
    return due_us
