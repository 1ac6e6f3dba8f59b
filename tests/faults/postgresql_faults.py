"""Concurrent clients on a server whose PostgreSQL is killed, cut off or failed over, or whose backends are terminated.

The clients, the record and the judge are those of history.py: what was acknowledged is in the ledger,
once, in an order that fits what everyone saw. While PostgreSQL is away calls are left without an answer.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from entitlements_server.stores.factory import open_store
from faults.figures import Advance, Report, silent
from faults.history import Place, Run
from faults.redis_faults import PAUSE_S, TOLERANCE_S, Tally
from support.network import Network
from support.postgresql import DATABASE, PostgresqlPair, PostgresqlServer

OPERATIONS = 2000
STRIKES = 10
AWAY_S = (0.2, 7.0)
"""How long PostgreSQL is cut off: both less and more than the server waits for a reply."""

LAG_S = 0.3
"""How long the control's standby has received nothing when its primary dies."""

Strike = Callable[[], Awaitable[None]]


def check(
    size: int,
    advance: Advance = silent,
    *,
    breaking: str = "",
    faults: tuple[str, ...] = ("killed", "terminated", "cut off", "promoted"),
    operations: int = OPERATIONS,
    strikes: int = STRIKES,
) -> Report:
    """Make `size` runs with each fault."""
    report = Report()
    tallies = {fault: Tally() for fault in faults}
    for seed in range(size):
        for fault, tally in tallies.items():
            if breaking and tally.violations:
                continue
            with (
                FAULTS[fault](Random(seed)) as (url, strike),
                tempfile.TemporaryDirectory() as folder,
            ):
                place = Place(Path(folder), TOLERANCE_S)
                server = place.server("--store", url, breaking=breaking)
                run = Run(seed, server, place, operations, strikes, strike=strike, pause_s=PAUSE_S)
                problems = asyncio.run(run.problems())
            report.problems += [f"{fault}, run {seed}: {problem}" for problem in problems]
            tally.times += strikes
            tally.violations += len(problems)
            tally.acknowledged += run.record.acknowledged
            tally.unanswered += sum(one.answer is None for one in run.record.attempts)
        advance(1)
    for fault, tally in tallies.items():
        report.note(f"{fault}: times", tally.times)
        report.note(f"{fault}: acknowledged writes", tally.acknowledged)
        report.note(f"{fault}: requests left without an answer", tally.unanswered)
        report.note(f"{fault}: violations", tally.violations, "0")
    return report


@contextmanager
def _killed(_: Random) -> Iterator[tuple[str, Strike]]:
    """SIGKILL of the postmaster and of all backends: what only was in memory is gone."""
    with PostgresqlServer() as postgresql:

        async def strike() -> None:
            await asyncio.to_thread(postgresql.crash)
            await asyncio.to_thread(postgresql.start)

        yield postgresql.url, strike


@contextmanager
def _terminated(random: Random) -> Iterator[tuple[str, Strike]]:
    """Every backend is terminated, between a write and its reply or wherever it is."""
    with PostgresqlServer() as postgresql:

        async def strike() -> None:
            for _ in range(10):
                await asyncio.to_thread(
                    postgresql.sql,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()",
                )
                await asyncio.sleep(random.uniform(0, 0.05))

        yield postgresql.url, strike


@contextmanager
def _cut_off(random: Random) -> Iterator[tuple[str, Strike]]:
    """Packets vanish, all of them or the answers only; what is on its way may arrive later."""
    with Network() as network, PostgresqlServer(network=network) as postgresql:

        async def strike() -> None:
            cut = random.choice([network.cut, network.cut_answers])
            await asyncio.to_thread(cut)
            await asyncio.sleep(random.uniform(*AWAY_S))
            await asyncio.to_thread(network.mend)

        yield postgresql.url, strike


@contextmanager
def _promoted(_: Random) -> Iterator[tuple[str, Strike]]:
    """A primary dies, and its synchronous standby takes its place."""
    with PostgresqlPair() as pair:

        async def strike() -> None:
            await asyncio.to_thread(pair.fail_over)

        yield pair.url, strike


@contextmanager
def _promoted_late(_: Random) -> Iterator[tuple[str, Strike]]:
    """The control: the standby was not waited for, and lacked the last moments."""
    with PostgresqlPair(synchronous=False) as pair:

        async def strike() -> None:
            await asyncio.to_thread(pair.fail_over, LAG_S)

        yield pair.url, strike


@contextmanager
def _careless(_: Random) -> Iterator[tuple[str, Strike]]:
    """The control: killed, and commits are acknowledged before they are on disk."""
    with PostgresqlServer(synchronous_commit="off", wal_writer_delay="10s") as postgresql:

        async def strike() -> None:
            await asyncio.to_thread(postgresql.crash)
            await asyncio.to_thread(postgresql.start)

        url = f"{postgresql.url}?durability=none"
        asyncio.run(_make(url))
        # The tables are not to be lost: a server does not begin a ledger again.
        postgresql.sql("CHECKPOINT")
        yield url, strike


async def _make(url: str) -> None:
    await (await open_store(url)).close()


FAULTS = {
    "killed": _killed,
    "terminated": _terminated,
    "cut off": _cut_off,
    "promoted": _promoted,
    "careless": _careless,
    "promoted late": _promoted_late,
}
"""By name: a PostgreSQL, and a way to strike it. The last two are the controls, which lose writes."""
