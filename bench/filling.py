"""Fills a ledger through the store port: accounts with tokens, and a history of any length."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.decide import new_salt
from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.stores.sqlite import SqliteStore

USERS = 10_000
FIRST_KEY = "first"
"""Key of a charge for `full_distribution` that every user has."""

_TOKENS = 10**9
_BATCH = 20_000


def user_id(number: int) -> str:
    """Name a user."""
    return f"user-{number:05}"


async def fill(path: Path, stored: int, advance: Callable[[int], None]) -> float:
    """Make a ledger file of USERS accounts with at least `stored` transactions.

    Args:
        path: Absolute path of a file that is not there yet.
        stored: How many transactions; each user has a top-up and a charge even at 0.
        advance: Told of each batch how many transactions it stored.

    Returns:
        The seconds that it took.
    """
    begin = time.monotonic()
    store = await SqliteStore.open(path)
    storing: asyncio.Task[None] | None = None
    for batch in _batches(max(stored // USERS, 2)):
        # The next batch is made while the one before is being stored.
        if storing is not None:
            await storing
        storing = asyncio.create_task(store.append(batch))
        await asyncio.sleep(0)
        advance(len(batch))
    assert storing is not None
    await storing
    await store.close()
    return time.monotonic() - begin


def _batches(each: int) -> Iterator[list[Transaction]]:
    batch: list[Transaction] = []
    for number in range(USERS):
        batch += _history(user_id(number), each, Random(number))
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


def _history(user: str, length: int, chance: Random) -> list[Transaction]:
    """Make one user's history: a top-up and charges with random keys."""
    version = BUILT_IN.version
    feature = BUILT_IN.feature("full_distribution")
    begin_us = 1_700_000_000_000_000
    history = [
        Transaction(
            1,
            Kind.TOP_UP,
            Status.SUCCESS,
            amount=_TOKENS,
            balance_after=_TOKENS,
            create_time_us=begin_us,
            catalogue_version=version,
            user_id=user,
            reason="filled",
            salt=new_salt(),
        )
    ]
    history += [
        Transaction(
            sequence,
            Kind.CONSUME,
            Status.SUCCESS,
            feature.feature,
            feature.cost,
            -feature.cost,
            _TOKENS - feature.cost * (sequence - 1),
            begin_us + sequence,
            event_id="" if sequence == 2 else f"event-{sequence}",
            catalogue_version=version,
            user_id=user,
            idempotency_key=FIRST_KEY if sequence == 2 else f"{chance.getrandbits(128):032x}",
        )
        for sequence in range(2, length + 1)
    ]
    return history
