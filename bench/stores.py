"""Measures Consume on each store, beside FastAPI on the same PostgreSQL: docs/postgresql.md has the results.

    bench/stores.py              everything, in about five minutes; --quick to see that it works
    bench/stores.py --no-others  only PostgreSQL, by number of workers, and one hot user over several servers

Everyone takes turns, so that noise hurts all alike. All of it is on one machine, load generators included.
"""

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import structlog
import typer
from generators import generator, run
from generators.load import CONNECTIONS, Calls, Target
from psutil import Process
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from servers import Server, serving
from sides import fastapi_postgresql, missing, own_cluster
from users import MANY, TOKENS, user_id
from workloads import CONSUME, FASTAPI

from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import Command, TopUp
from entitlements_server.ledger.decide import bind
from entitlements_server.stores.factory import open_store

# Its Redis and its trials are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import trials
from support.redis import RedisServer

POSTGRESQL, SQLITE, REDIS = "PostgreSQL", "SQLite", "Redis"
TARGETS = (
    (POSTGRESQL, FASTAPI, 2.5),
    (POSTGRESQL, SQLITE, 0.75),
    (REDIS, SQLITE, 0.5),
)
"""What the rate of the first is to be of that of the second, at least."""

_COLUMNS = ("charges/s", "p50 ms", "p99 ms", "server µs", "database µs", "failed")
_WARM_UP_S = 1.0

console = Console(width=max(Console().width, 120))


@dataclass(frozen=True, slots=True)
class Place:
    """A service on a store.

    Attributes:
        name: As the report has it.
        server: Its processes.
        target: Where it is called.
        database: The process of its database, if it has one.
        generator: What calls it.
    """

    name: str
    server: Server
    target: Target
    database: Process | None = None
    generator: str = "ghz"

    def cpu_s(self) -> tuple[float, float]:
        """Seconds of CPU so far: of the server, and of its database."""
        server = replace(self.server, others=())
        database = replace(server, process=self.database) if self.database else None
        return server.cpu_s(), database.cpu_s() if database else 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What was seen of one place in one round. CPU is in microseconds for each charge."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_us: float
    database_us: float
    failed: int


Turns = dict[str, list[Turn]]
"""Of each place, by its name, one for each round."""


def main(
    *,
    seconds: Annotated[float, typer.Option(help="Length of each turn.", min=1)] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often each takes its turn.", min=1)] = 5,
    workers: Annotated[
        list[int] | None, typer.Option(help="Numbers of workers to measure. Default: 1, 2, 4.")
    ] = None,
    others: Annotated[bool, typer.Option(help="Also the other stores, and FastAPI.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="One short round each.")] = False,
) -> None:
    """Measure, and print the figures beside what is to be reached."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if quick:
        seconds, rounds = 1.0, 1
    for what, why in missing().items():
        if what == FASTAPI:
            raise SystemExit(f"{what} cannot be measured, and nothing beside it: {why}.")
    console.print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before it began.")
    if others:
        asyncio.run(_compare_stores(seconds, rounds))
    asyncio.run(_compare_workers(workers or [1, 2, 4], seconds, rounds))
    asyncio.run(_share_hot_user((1, 2, 4), charges=round(2000 * seconds)))


async def _compare_stores(seconds: float, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(RedisServer())
        database = await stack.enter_async_context(own_cluster())
        fastapi = await stack.enter_async_context(fastapi_postgresql("", database))
        places = [Place(FASTAPI, fastapi.server, fastapi.target, database.process, "wrk")]
        for name, url, process in (
            (POSTGRESQL, database.url, database.process),
            (SQLITE, f"sqlite://{folder}/ledger.sqlite", None),
            (REDIS, redis.url, _process_of(redis)),
        ):
            await _fund(url)
            places.append(await stack.enter_async_context(_place(name, url, process)))
        turns = await _measure(places, seconds, rounds)
    _show("One process each", turns)
    table = Table(title="To reach")
    for title in ("", "reached", "at least"):
        table.add_column(title, justify="left" if not title else "right")
    for mine, theirs, least in TARGETS:
        ratio = median(
            one.rate / other.rate for one, other in zip(turns[mine], turns[theirs], strict=True)
        )
        table.add_row(f"Consume, {mine} ÷ {theirs}", f"{ratio:.2f}", f"{least:g}")
    console.print(table)


async def _compare_workers(counts: Sequence[int], seconds: float, rounds: int) -> None:
    """Measure PostgreSQL by number of workers, all over as many connections."""
    connections = CONNECTIONS * max(counts)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(own_cluster())
        await _fund(database.url)
        places = []
        for count in counts:
            name = f"{count} worker{'s' * (count > 1)}"
            options = ("--workers", str(count))
            place = _place(name, database.url, database.process, options)
            found = await stack.enter_async_context(place)
            target = replace(found.target, connections=connections)
            places.append(replace(found, target=target))
        turns = await _measure(places, seconds, rounds)
    _show(f"PostgreSQL by number of workers, {connections} connections", turns)
    one = turns[places[0].name]
    server, base = (
        median(getattr(turn, f"{part}_us") for turn in one) for part in ("server", "database")
    )
    console.print(
        f"10,000 charges/s take {server / 100:.1f} processors for servers and {base / 100:.1f} for PostgreSQL,"
        " as far as the figures of the first row go."
    )


async def _share_hot_user(counts: Sequence[int], charges: int) -> None:
    """Charge one user over several servers at once, by clients in this process."""
    table = Table(title="One hot user on PostgreSQL, 8 clients for each server")
    for title in ("servers", "charges/s", "least of a server", "most", "slowest call ms"):
        table.add_column(title, justify="right")
    async with own_cluster() as database:
        for count in counts:
            shares = await trials.hot(database.url, count, charges)
            table.add_row(
                f"{count}",
                f"{sum(shares.charges) / shares.seconds:,.0f}",
                f"{min(shares.charges):,}",
                f"{max(shares.charges):,}",
                f"{1000 * shares.slowest_s:,.0f}",
            )
    console.print(table)


def _process_of(redis: RedisServer) -> Process:
    assert redis.process is not None
    return Process(redis.process.pid)


@asynccontextmanager
async def _place(
    name: str, url: str, database: Process | None, options: tuple[str, ...] = ()
) -> AsyncIterator[Place]:
    async with serving(url, "--log-level", "warning", *options) as server:
        yield Place(name, server, Target(server.address), database)


async def _fund(url: str) -> None:
    """Give tokens to the users that are charged."""
    store = await open_store(url)
    commands: list[Command] = [TopUp(user_id=user_id(n), amount=TOKENS) for n in range(MANY)]
    await store.commit(commands, bind(BUILT_IN, time.time_ns() // 1000))
    await store.close()


async def _measure(places: Sequence[Place], seconds: float, rounds: int) -> Turns:
    """Measure all in turns, after a short round that does not count."""
    turns: Turns = {place.name: [] for place in places}
    with Progress(console=console) as progress:
        task = progress.add_task("", total=len(places) * (rounds + 1))
        for number in range(rounds + 1):
            length_s = seconds if number else _WARM_UP_S
            # Who comes first alternates: it finds the processor cooler.
            for place in places if number % 2 else reversed(places):
                progress.update(task, description=place.name)
                turn = await _turn(place, CONSUME.make(length_s), length_s)
                if number:
                    turns[place.name].append(turn)
                progress.advance(task)
    return turns


async def _turn(place: Place, calls: Sequence[Calls], seconds: float) -> Turn:
    sender = generator(place.generator)
    assert sender is not None, f"{place.generator} is missing."
    before = place.cpu_s()
    load = await run(sender, place.target, calls, seconds)
    spent = [after - then for after, then in zip(place.cpu_s(), before, strict=True)]
    await place.server.quiet()
    return Turn(
        load.rate,
        load.percentile_ms(0.5),
        load.percentile_ms(0.99),
        1e6 * spent[0] / load.calls,
        1e6 * spent[1] / load.calls,
        load.calls - load.codes["OK"],
    )


def _show(title: str, turns: Turns) -> None:
    table = Table(title=title)
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for name, seen in turns.items():
        figures = (
            (f"{median(getattr(one, figure) for one in seen):,.{digits}f}")
            for figure, digits in (
                ("rate", 0),
                ("p50_ms", 1),
                ("p99_ms", 1),
                ("server_us", 0),
                ("database_us", 0),
            )
        )
        table.add_row(name, *figures, f"{sum(one.failed for one in seen):,}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
