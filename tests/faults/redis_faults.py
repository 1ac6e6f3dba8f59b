"""Concurrent clients on a server whose Redis is killed, paused, cut off or failed over.

The clients, the record and the judge are those of history.py: what was acknowledged is in the ledger,
once, in an order that fits what everyone saw. While Redis is away calls are left without an answer.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from faults.figures import Advance, Report, silent
from faults.history import Place, Run
from support.network import Network
from support.redis import RedisClusterServers, RedisServer

OPERATIONS = 2000
STRIKES = 3
PAUSE_S = 0.2
"""A caller who gets no answer waits a little, so that there are calls left when Redis is back."""

TOLERANCE_S = 8
"""How far the server's clock may be from this one: it is read of a store that takes this long to answer."""

AWAY_S = (0.2, 7.0)
"""How long Redis hangs or is cut off: both less and more than the server waits for a reply."""

UNANSWERED_S = (4.9, 6.5)
"""How long answers are lost: about as long as the server waits for one."""

NODE_TIMEOUT_MS = 1000
"""After which a cluster gives a master up."""

Strike = Callable[[], Awaitable[None]]


def check(
    size: int,
    advance: Advance = silent,
    *,
    breaking: str = "",
    faults: tuple[str, ...] = ("killed", "paused", "cut off", "failed over"),
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


@dataclass(slots=True)
class Tally:
    """What the runs with one fault came to."""

    times: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    violations: int = 0


@contextmanager
def _killed(_: Random) -> Iterator[tuple[str, Strike]]:
    """SIGKILL; it comes back on what it has synced, which is all that it answered."""
    with RedisServer() as redis:

        async def strike() -> None:
            await asyncio.to_thread(redis.kill)
            await asyncio.to_thread(redis.start)

        yield redis.url, strike


@contextmanager
def _paused(random: Random) -> Iterator[tuple[str, Strike]]:
    """SIGSTOP: connections stay, and nothing is answered until it goes on where it was."""
    with RedisServer() as redis:

        async def strike() -> None:
            redis.pause()
            await asyncio.sleep(random.uniform(*AWAY_S))
            redis.resume()

        yield redis.url, strike


@contextmanager
def _cut_off(random: Random) -> Iterator[tuple[str, Strike]]:
    """Packets vanish, all of them or the answers only; what is on its way may arrive later.

    Answers are gone for as long as it takes to give a reply up: then it has to be found out what was
    stored.
    """
    with Network() as network, RedisServer(network=network) as redis:

        async def strike() -> None:
            cut, away_s = random.choice(
                [(network.cut, AWAY_S), (network.cut_answers, UNANSWERED_S)]
            )
            await asyncio.to_thread(cut)
            await asyncio.sleep(random.uniform(*away_s))
            await asyncio.to_thread(network.mend)

        yield redis.url, strike


@contextmanager
def _failed_over(random: Random) -> Iterator[tuple[str, Strike]]:
    """A cluster gives a dead master's slots to its replica, which has confirmed every write."""
    with RedisClusterServers(3, 1, node_timeout_ms=NODE_TIMEOUT_MS) as cluster:

        async def strike() -> None:
            await asyncio.to_thread(cluster.fail_over, random.choice)

        yield f"{cluster.url}?replicas=1", strike


FAULTS = {
    "killed": _killed,
    "paused": _paused,
    "cut off": _cut_off,
    "failed over": _failed_over,
}
"""By name: a Redis, and a way to strike it."""
