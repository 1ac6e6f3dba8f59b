"""Commands and rules for tests that talk to a store without a server."""

import time
from typing import Any

from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import Command, Consume, TopUp
from entitlements_server.ledger.decide import Outcome, Recorded, Rule, bind
from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.interface import Store


def rule() -> Rule:
    """The real rules, with the catalogue that ships and the time of now."""
    return bind(BUILT_IN, time.time_ns() // 1000)


def consume(user_id: str, key: str = "", **fields: Any) -> Consume:
    """A charge of 2 tokens."""
    return Consume(user_id=user_id, feature="full_distribution", idempotency_key=key, **fields)


def top_up(user_id: str, amount: int, key: str = "") -> TopUp:
    return TopUp(user_id=user_id, amount=amount, idempotency_key=key)


async def commit(store: Store, *commands: Command) -> list[Outcome]:
    return await store.commit(commands, rule())


async def commit_one(store: Store, command: Command) -> Outcome:
    (outcome,) = await store.commit([command], rule())
    return outcome


def stored(outcome: Outcome) -> Transaction:
    """The transaction that must have been recorded, and not replayed."""
    assert isinstance(outcome, Recorded), outcome
    return outcome.transaction


async def history(store: Store, user_id: str) -> list[Transaction]:
    """The whole history of a user, oldest first."""
    found: list[Transaction] = []
    before = 1 << 53
    while page := await store.history(user_id, before, 1000):
        found += page
        before = page[-1].sequence
    found.reverse()
    return found
