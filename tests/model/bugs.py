"""Seeded bugs: each breaks one rule, and the machine has to find it.

The docstring of each says what is right.
"""

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from entitlements_server.ledger import decide, grants, replay, settlement, windows
from entitlements_server.ledger import state as state_module
from entitlements_server.ledger.commands import Consume
from entitlements_server.ledger.errors import IdempotencyKeyReusedError, TooManyGrantsError
from entitlements_server.ledger.grants import POOL, last_part
from entitlements_server.ledger.outcomes import Rejected, Replayed
from entitlements_server.ledger.values import Account, Charge, Draw, Draws, Facts, Transaction
from model import machine

Patches = Sequence[Any]
Bug = Callable[[], Patches]

_taken, _returned, _added = grants.taken, grants.returned, grants.added
_replay, _decide, _expiry = replay.replay, decide.decide, settlement.expiry


def _latest_first() -> Patches:
    """The grant that expires soonest is drawn first."""

    def taken(account: Account, amount: int, now_us: int) -> Draws:
        reversed_account = replace(account, grants=account.grants[::-1])
        return _taken(reversed_account, amount, now_us)

    return [patch.object(grants, "taken", taken)]


def _pool_first() -> Patches:
    """The pool is drawn last."""

    def taken(account: Account, amount: int, now_us: int) -> Draws:
        pool = account.balance - grants.tokens(account.grants)
        rest = max(amount - pool, 0)
        draws = _taken(account, rest, now_us)
        return (*draws, Draw(POOL, amount - rest, 0)) if draws and amount > rest else draws

    return [patch.object(grants, "taken", taken)]


def _immortal_grant() -> Patches:
    """Nothing is spent after its expiry."""
    return [
        patch.object(module, "open_grants", lambda account, _: account.grants)
        for module in (grants, settlement)
    ]


def _lapsed_counts_as_available() -> Patches:
    """What has lapsed is not available, also while that is not recorded."""
    return [patch.object(decide, "settled", lambda account, _: account)]


def _settlement_refused_at_the_limit() -> Patches:
    """An account with as many grants as may be open settles like any other."""

    def expiry(account: Account, now_us: int, *, at_once: bool) -> Transaction | None:
        full = len(account.grants) >= machine.MAX_GRANTS
        return None if full else _expiry(account, now_us, at_once=at_once)

    return [patch.object(decide, "expiry", expiry)]


def _lapsed_grants_count_against_the_limit() -> Patches:
    """Only open grants count."""

    def added(account: Account, amount: int, time: int, own_id: str, now_us: int) -> Draws:
        if len(account.grants) >= machine.MAX_GRANTS - 1:
            raise TooManyGrantsError(account.user_id, machine.MAX_GRANTS)
        return _added(account, amount, time, own_id, now_us)

    return [patch.object(grants, "added", added)]


def _every_top_up_opens_a_grant() -> Patches:
    """A top-up whose expiry is that of an open grant joins it."""

    def added(_: Account, amount: int, time: int, own_id: str, __: int) -> Draws:
        return (Draw(own_id, amount, time),)

    return [patch.object(grants, "added", added)]


def _expired_without_delay() -> Patches:
    """What has lapsed is recorded a minute later at the soonest."""
    return [patch.object(settlement, "DELAY_US", 0)]


def _balance_set_without_settling() -> Patches:
    """SetBalance takes off first what has lapsed."""

    def expiry(account: Account, now_us: int, *, at_once: bool) -> Transaction | None:
        return _expiry(account, now_us, at_once=False)

    return [patch.object(decide, "expiry", expiry)]


def _refund_from_the_start() -> Patches:
    """A refund takes from the end of what was drawn."""

    def wrong(draws: Draws, skip: int, amount: int) -> Any:
        return last_part(draws[::-1], skip, amount)

    return [patch.object(grants, "last_part", wrong)]


def _refund_forgets_earlier_refunds() -> Patches:
    """What was given back before is not given back again."""

    def wrong(draws: Draws, _: int, amount: int) -> Any:
        return last_part(draws, 0, amount)

    return [patch.object(grants, "last_part", wrong)]


def _refund_to_a_lapsed_grant() -> Patches:
    """Tokens that come back to a lapsed grant can be spent for a while."""

    def returned(account: Account, charge: Charge, amount: int, own_id: str, terms: Any) -> Draws:
        return _returned(account, charge, amount, own_id, replace_time(terms, 0))

    return [patch.object(grants, "returned", returned)]


def _refund_to_the_pool() -> Patches:
    """Tokens of a grant come back to that grant and do not become immortal."""
    return [patch.object(grants, "returned", lambda *_: ())]


def _used_up_grant_stays_closed() -> Patches:
    """A grant that was used up is opened again by what comes back."""

    def returned(account: Account, charge: Charge, amount: int, own_id: str, terms: Any) -> Draws:
        draws = _returned(account, charge, amount, own_id, terms)
        there = {one.grant for one in account.grants} | {own_id}
        pool = sum(one.amount for one in draws if one.grant not in there)
        kept = tuple(one for one in draws if one.grant in there)
        return (*kept, Draw(POOL, pool, 0)) if kept and pool else kept

    return [patch.object(grants, "returned", returned)]


def _returned_grants_without_a_limit() -> Patches:
    """There are never more open grants than may be."""

    def returned(*arguments: Any) -> Draws:
        with patch.object(grants, "MAX_GRANTS", 1000):
            return _returned(*arguments)

    return [patch.object(grants, "returned", returned)]


def _guard_compared_under_a_key() -> Patches:
    """The retry of a paid call succeeds after a price change."""

    def wrong(bound: Transaction, facts: Facts, command: Any) -> Any:
        outcome = _replay(bound, facts, command)
        if (
            isinstance(outcome, Replayed)
            and isinstance(command, Consume)
            and command.max_cost is not None
            and command.max_cost < bound.cost
        ):
            return Rejected(
                IdempotencyKeyReusedError(
                    idempotency_key=command.idempotency_key, field="max_cost", transaction_id=""
                )
            )
        return outcome

    return [patch.object(decide, "replay", wrong)]


def _replay_forgets_refunds() -> Patches:
    """A replay says what was given back of its charge."""

    def wrong(bound: Transaction, facts: Facts, command: Any) -> Any:
        return _replay(bound, replace(facts, refunded=0), command)

    return [patch.object(decide, "replay", wrong)]


def _window_open_after_a_refund() -> Patches:
    """A whole refund ends the access."""

    def is_open(charge: Charge, now_us: int) -> bool:
        return charge.transaction.access_until_us > now_us

    return [patch.object(windows, "is_open", is_open)]


def _window_closed_by_a_partial_refund() -> Patches:
    """Only a whole refund ends the access."""

    def is_open(charge: Charge, now_us: int) -> bool:
        return charge.transaction.access_until_us > now_us and not charge.refunded

    return [patch.object(windows, "is_open", is_open)]


def _window_without_an_end() -> Patches:
    """A window ends."""

    def is_open(charge: Charge, _: int) -> bool:
        return charge.transaction.access_until_us > 0 and charge.remaining > 0

    return [patch.object(windows, "is_open", is_open)]


def _window_follows_the_catalogue() -> Patches:
    """A window goes on when its feature leaves the catalogue."""

    def wrong(account: Account, facts: Facts, command: Any, terms: Any) -> Any:
        known = {one.feature_id for one in terms.catalogue.features}
        if isinstance(command, Consume) and command.feature not in known:
            facts = replace(facts, window=None)
        return _decide(account, facts, command, terms)

    return [patch.object(decide, "decide", wrong)]


def _window_for_an_event_of_another_feature() -> Patches:
    """A window is one of a feature and an event."""

    def name(command: Consume) -> str:
        return f"any {command.event_id}" if command.event_id and command.quantity == 1 else ""

    return [
        patch.object(state_module, "window_of", name),
        patch.object(
            Transaction,
            "window",
            property(lambda one: f"any {one.event_id}" if one.access_until_us else ""),
        ),
    ]


def _denials_without_a_limit() -> Patches:
    """Only so many denials of a user are recorded in a minute."""
    return [patch.object(decide, "_require_room_for_denial", lambda *_: None)]


def _denials_counted_for_ever() -> Patches:
    """Denials are counted by the minute."""
    return [
        patch("entitlements_server.ledger.fold.minute_of", lambda _: 1),
        patch.object(decide, "minute_of", lambda _: 1),
    ]


def replace_time(terms: Any, now_us: int) -> Any:
    """The terms at another time."""
    return type(terms)(terms.catalogue, now_us, terms.choices, terms.new_salt)


BUGS: dict[str, Bug] = {
    name.removeprefix("_"): value
    for name, value in list(globals().items())
    if name.startswith("_") and callable(value) and value.__doc__ and value.__module__ == __name__
}
"""All of them, by name."""
