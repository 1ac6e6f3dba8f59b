"""Tokens that expire: which are taken, and where those go that come in or come back.

An account has at most 64 open grants, and a pool of tokens that never expire. A grant is open until its
expiry; from then on its tokens cannot be spent, whether that is recorded yet or not.

What is moved is described by draws: which grant, how many tokens, and when they expire. Where no grant is
concerned there are none.
"""

from bisect import insort
from collections.abc import Iterator

from entitlements_server.ledger.errors import TooManyGrantsError
from entitlements_server.ledger.limits import MAX_GRANTS
from entitlements_server.ledger.terms import Terms
from entitlements_server.ledger.values import Account, Charge, Draw, Draws, sequence_of

POOL = ""
"""Names the pool in a draw, where a grant is named by its id."""


def open_grants(account: Account, now_us: int) -> Draws:
    """Return the grants that can be spent now, soonest to expire first."""
    grants = account.grants
    if not grants or grants[0].expire_time_us > now_us:
        return grants
    return tuple(one for one in account.grants if one.expire_time_us > now_us)


def lapsed_grants(account: Account, until_us: int) -> Draws:
    """Return the grants that expire at `until_us` or before, soonest first."""
    if not account.grants or account.grants[0].expire_time_us > until_us:
        return ()
    return tuple(one for one in account.grants if one.expire_time_us <= until_us)


def tokens(draws: Draws) -> int:
    """Return how many tokens some draws move."""
    return sum(one.amount for one in draws)


def taken(account: Account, amount: int, now_us: int) -> Draws:
    """Choose the tokens that are spent: the grant that expires soonest first, the pool last.

    Args:
        account: It has as many tokens that can be spent.
        amount: Tokens.
        now_us: The time, microseconds since 1970 UTC.
    """
    draws: list[Draw] = []
    for grant in open_grants(account, now_us):
        if not amount:
            break
        part = min(amount, grant.amount)
        draws.append(Draw(grant.grant, part, grant.expire_time_us))
        amount -= part
    if draws and amount:
        draws.append(Draw(POOL, amount, 0))
    return tuple(draws)


def added(account: Account, amount: int, expire_time_us: int, own_id: str, now_us: int) -> Draws:
    """Place tokens that expire: in the open grant of that expiry, or in a new one.

    Args:
        account: Where they go.
        amount: Tokens.
        expire_time_us: When they expire, in the future.
        own_id: Id of the transaction that adds them.
        now_us: The time, microseconds since 1970 UTC.

    Raises:
        TooManyGrantsError: It would be a new grant, and there are too many.
    """
    there = open_grants(account, now_us)
    for grant in there:
        if grant.expire_time_us == expire_time_us:
            return (Draw(grant.grant, amount, expire_time_us),)
    if len(there) >= MAX_GRANTS:
        raise TooManyGrantsError(account.user_id, MAX_GRANTS)
    return (Draw(own_id, amount, expire_time_us),)


def returned(account: Account, charge: Charge, amount: int, own_id: str, terms: Terms) -> Draws:
    """Place tokens of a charge that come back. This is never refused.

    They come from the end of what the charge took, so the pool's come first. Tokens of a grant join that
    grant while it has not lapsed, also if it was used up. Those of a lapsed grant last for the
    refund grace from now, in a grant of that expiry. If that would be one grant too many, they join the one that
    expires next after it, or the pool.

    Args:
        account: Where they go.
        charge: Where they come from, before this refund.
        amount: Tokens, at most what remains of the charge.
        own_id: Id of the refund.
        terms: With the time and the refund grace.
    """
    now_us, grace_us = terms.now_us, terms.choices.refund_grace_us
    there = open_grants(account, now_us)
    by_id = {one.grant: one for one in there}
    by_time = {one.expire_time_us: one for one in reversed(there)}
    found: dict[str, Draw] = {}
    new = 0
    for part in last_part(charge.transaction.draws, charge.refunded, amount):
        id_, expire_time_us = part.grant, part.expire_time_us
        if id_ != POOL:
            if expire_time_us <= now_us:
                expire_time_us = now_us + grace_us
                same = by_time.get(expire_time_us)
                id_ = same.grant if same else own_id
            if id_ not in by_id and id_ not in found:
                if len(there) + new < MAX_GRANTS:
                    new += 1
                else:
                    later = (one for one in there if one.expire_time_us >= expire_time_us)
                    instead = next(later, None)
                    id_ = instead.grant if instead else POOL
                    expire_time_us = instead.expire_time_us if instead else 0
        before = found.get(id_)
        found[id_] = Draw(id_, part.amount + (before.amount if before else 0), expire_time_us)
    return () if found.keys() <= {POOL} else tuple(found.values())


def last_part(draws: Draws, skip: int, amount: int) -> Iterator[Draw]:
    """Yield the tokens at the end of some draws, last first.

    Args:
        draws: What a charge took. Empty: all from the pool, and so nothing is yielded.
        skip: Tokens at the end to leave out: those that were given back before.
        amount: Tokens.
    """
    for one in reversed(draws):
        skipped = min(skip, one.amount)
        skip -= skipped
        part = min(amount, one.amount - skipped)
        amount -= part
        if part:
            yield Draw(one.grant, part, one.expire_time_us)


def grants_after(grants: Draws, draws: Draws, sign: int) -> Draws:
    """Return the grants of an account after a transaction.

    Args:
        grants: Those before it.
        draws: What it moved.
        sign: 1 if it put tokens there, -1 if it took them.
    """
    after = list(grants)
    for draw in draws:
        if draw.grant == POOL:
            continue
        # A charge nearly always takes from the first one.
        index = next((n for n, one in enumerate(after) if one.grant == draw.grant), None)
        if index is None:
            insort(after, Draw(draw.grant, sign * draw.amount, draw.expire_time_us), key=_order)
        elif amount := after[index].amount + sign * draw.amount:
            after[index] = Draw(draw.grant, amount, draw.expire_time_us)
        else:
            del after[index]
    return tuple(after)


def _order(grant: Draw) -> tuple[int, int]:
    return grant.expire_time_us, sequence_of(grant.grant) or 0
