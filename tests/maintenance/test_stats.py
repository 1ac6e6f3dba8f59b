"""Figures of a ledger: what is held, what of it expires, and what was charged."""

from entitlements_server.ledger.commands import Command, SetBalance, TopUp
from entitlements_server.maintenance.stats import stats
from entitlements_server.stores.memory import MemoryStore
from support.ledger import NOW_US, consume, rule_at

DAY_US = 86_400_000_000


async def filled(*commands: Command) -> MemoryStore:
    store = MemoryStore()
    await store.commit(commands, rule_at())
    return store


def grant(user_id: str, amount: int, days: int) -> TopUp:
    return TopUp(user_id=user_id, amount=amount, lifetime_us=days * DAY_US)


async def test_it_says_what_expires_and_when() -> None:
    """Each figure includes the one before it; what never expires is in none."""
    store = await filled(
        TopUp(user_id="ada", amount=1000),
        grant("ada", 1, 1),
        grant("ada", 10, 7),
        grant("bob", 100, 30),
        grant("bob", 500, 31),
    )
    found = await stats(store, now_us=NOW_US)
    assert (found.accounts, found.tokens_held, found.tokens_available) == (2, 1611, 1611)
    assert found.tokens_in_grants == 611
    assert (
        found.tokens_expiring_in_1_day,
        found.tokens_expiring_in_7_days,
        found.tokens_expiring_in_30_days,
    ) == (1, 11, 111)


async def test_what_has_expired_is_held_until_that_is_recorded() -> None:
    """And then it is expired."""
    store = await filled(TopUp(user_id="ada", amount=5), grant("ada", 3, 1))
    after_us = NOW_US + 2 * DAY_US
    before = await stats(store, now_us=after_us)
    assert (before.tokens_held, before.tokens_available, before.tokens_in_grants) == (8, 5, 0)
    assert before.tokens_expired == 0
    await store.commit([SetBalance(user_id="ada", balance=5)], rule_at(after_us))
    after = await stats(store, now_us=after_us)
    assert (after.tokens_held, after.tokens_available, after.tokens_expired) == (5, 5, 3)
    assert after.transactions["EXPIRE SUCCESS"] == 1


async def test_totals_add_up_to_what_is_held() -> None:
    store = await filled(
        TopUp(user_id="ada", amount=9),
        grant("ada", 3, 1),
        consume("ada"),
        consume("ada", quantity=2),
        consume("bob"),
    )
    found = await stats(store, now_us=NOW_US)
    assert (found.tokens_topped_up, found.tokens_consumed, found.tokens_held) == (12, 6, 6)
    assert (dict(found.charges), dict(found.denials)) == (
        {"full_distribution": 2},
        {"full_distribution": 1},
    )
    assert found.as_json()["charges"] == {"full_distribution": 2}
