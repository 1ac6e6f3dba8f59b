"""How much a ledger grows by each kind of entry: bytes of the SQLite file, and memory of Redis.

bench/growth.py --entries 100000
"""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import structlog
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from entitlements_server.engine.clock import wall_clock_us
from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue
from entitlements_server.ledger.commands import Command, Consume, Refund, Settle, TopUp
from entitlements_server.ledger.decide import bind
from entitlements_server.ledger.outcomes import Outcome
from entitlements_server.ledger.terms import Choices
from entitlements_server.stores.factory import open_store

# A real Redis, as the tests start it.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.redis import RedisServer

USERS = 1000
GROUP = 500
DAY_US = 86_400_000_000

WINDOWED = "scenario_extremes"
CATALOGUE = Catalogue(
    tuple(
        replace(one, access_us=2 * DAY_US) if one.feature_id == WINDOWED else one
        for one in BUILT_IN.features
    )
)
"""What ships; one of the features is paid for once per event."""

LABELS = tuple((f"label-{number:04}", f"value-{number:04}") for number in range(8))
"""As many as there may be, of 10 and 10 bytes."""

START_US = wall_clock_us()

GRANTS = 10
"""Grants of each account whose grants expire."""

console = Console(width=max(Console().width, 100))

Make = Callable[[int], Command]
"""Makes an entry, given its number."""


def _user(number: int) -> str:
    return f"user-{number % USERS:06}"


def _key() -> str:
    return str(uuid4())


def _charge(
    number: int, *, key: bool, user: str = "", feature: str = "full_distribution", labels: int = 0
) -> Command:
    return Consume(
        user_id=user or _user(number),
        feature=feature,
        # As many events as there are entries of a user: none is covered.
        event_id=f"event-{number if feature == WINDOWED else number % 50:05}",
        idempotency_key=_key() if key else "",
        caller="analytics",
        labels=LABELS[:labels],
    )


def _top_up(number: int, expire_time_us: int | None = None) -> Command:
    return TopUp(
        user_id=_user(number),
        amount=10,
        expire_time_us=expire_time_us,
        reason="order 20261126-0815",
        idempotency_key=_key(),
        caller="billing",
    )


ENTRIES: dict[str, Make] = {
    "a charge with a key": lambda number: _charge(number, key=True),
    "a charge without a key": lambda number: _charge(number, key=False),
    "a charge of tokens that expire": lambda number: _charge(
        number, key=True, user=f"granted-{number % USERS:06}"
    ),
    "a charge that opens an access window": lambda number: _charge(
        number, key=True, feature=WINDOWED
    ),
    "a charge with a label": lambda number: _charge(number, key=True, labels=1),
    "a charge with 8 labels": lambda number: _charge(number, key=True, labels=8),
    "a denied charge with a key": lambda number: Consume(
        user_id=f"poor-{number % USERS:06}",
        feature="full_distribution",
        event_id=f"event-{number % 50:05}",
        idempotency_key=_key(),
        caller="analytics",
    ),
    "a top-up with a key and a reason": _top_up,
    "the same, of tokens that expire": lambda number: _top_up(
        number, START_US // DAY_US * DAY_US + 30 * DAY_US
    ),
    "a new account with one top-up": lambda number: TopUp(
        user_id=f"new-{number:09}", amount=10, idempotency_key=_key(), caller="billing"
    ),
}
"""Entries that need nothing before them but an account with tokens, or without."""

REFUND = "a refund with a key"
EXPIRY = "an expiry"


async def _commit(url: str, commands: Sequence[Command], now_us: int = 0) -> list[Outcome]:
    store = await open_store(url)
    try:
        outcomes: list[Outcome] = []
        left = iter(commands)
        while group := list(islice(left, GROUP)):
            for result in await store.commit(
                group, bind(CATALOGUE, now_us or wall_clock_us(), Choices(max_denials=10**6))
            ):
                assert not isinstance(result, Exception)
                outcomes.append(result)  # type: ignore[arg-type]
        return outcomes
    finally:
        await store.close()


def _setup() -> list[Command]:
    rich: list[Command] = [TopUp(user_id=_user(n), amount=10**9) for n in range(USERS)]
    poor: list[Command] = [
        Consume(user_id=f"poor-{n:06}", feature="full_distribution") for n in range(USERS)
    ]
    granted: list[Command] = [
        TopUp(user_id=f"granted-{n:06}", amount=10**9, lifetime_us=30 * DAY_US)
        for n in range(USERS)
    ]
    return rich + poor + granted


async def _grown_by_expiry(url: str, size: Callable[[], int], entries: int) -> float:
    """Return the bytes that each expiry adds, if nothing else is recorded."""
    users = [f"lapsing-{number:06}" for number in range(entries // GRANTS)]
    ends_us = [START_US + (number + 1) * DAY_US for number in range(GRANTS)]
    await _commit(
        url,
        [
            TopUp(user_id=user, amount=10, expire_time_us=end_us)
            for end_us in ends_us
            for user in users
        ],
    )
    before = size()
    for end_us in ends_us:
        await _commit(url, [Settle(user_id=user) for user in users], end_us + DAY_US // 2)
    return (size() - before) / (len(users) * GRANTS)


async def _grown(url: str, size: Callable[[], int], name: str, entries: int) -> float:
    """Return the bytes that each entry adds."""
    await _commit(url, _setup())
    if name == EXPIRY:
        return await _grown_by_expiry(url, size, entries)
    if name == REFUND:
        charged = await _commit(url, [_charge(n, key=True) for n in range(entries)])
        commands: list[Command] = [
            Refund(
                user_id=one.transaction.user_id,  # type: ignore[union-attr]
                transaction_id=one.transaction.transaction_id,  # type: ignore[union-attr]
                reason="order 20261126-0815",
                idempotency_key=_key(),
                caller="billing",
            )
            for one in charged
        ]
    else:
        commands = [ENTRIES[name](number) for number in range(entries)]
    before = size()
    await _commit(url, commands)
    return (size() - before) / entries


@contextmanager
def _sqlite() -> Iterator[tuple[str, Callable[[], int]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        yield f"sqlite://{path}", lambda: os.stat(path).st_size  # noqa: PTH116


@contextmanager
def _redis() -> Iterator[tuple[str, Callable[[], int]]]:
    with RedisServer() as server, server.client() as client:
        yield server.url, lambda: int(client.info("memory")["used_memory"])


STORES = {"SQLite, bytes of the file": _sqlite, "Redis, bytes of memory": _redis}


def main(
    entries: Annotated[int, typer.Option(min=1000, help="Entries of each kind.")] = 100_000,
) -> None:
    """Measure how much a ledger grows by each kind of entry."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    names = [*ENTRIES, REFUND, EXPIRY]
    table = Table("entry", *STORES, title=f"{entries:,} entries of {USERS:,} users each")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("growing", total=len(names) * len(STORES))
        for name in names:
            figures = []
            for store in STORES.values():
                with store() as (url, size):
                    figures.append(f"{asyncio.run(_grown(url, size, name, entries)):,.0f}")
                progress.advance(task)
            table.add_row(name, *figures)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
