"""Concurrent clients on a real server that is killed now and then; the judge reads the record.

Requests quarrel on purpose: few users, few tokens, keys used twice, deadlines of a few milliseconds,
calls given up, batches, a queue that is soon full. The server's clock leaps, so that tokens expire. See `judge.py` for what has to hold.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import grpc

from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from entitlements_server.ledger.commands import Consume
from faults.breaks import OF_RULES
from faults.catalogue import catalogue_in
from faults.clocks import LEAPS_S, ServerClock, SharedOffset
from faults.figures import Advance, Report, silent
from faults.judge import judge
from faults.records import Charged, ReadAccount, Record, Request
from faults.requests import Requests
from faults.servers import CHANNEL_OPTIONS, ledger_in
from faults.wire import BrokenPromiseError, read_histories, send, send_together
from support.server_process import ServerProcess

OPERATIONS = 10_000
USERS = 20
CLIENTS = 24
KILLS = 3
LEAP_RATE = 0.004
"""How often the clock leaps, of all requests."""

BUGS = OF_RULES
"""The seeded bugs."""


def check(
    size: int,
    advance: Advance = silent,
    *,
    breaking: str = "",
    operations: int = OPERATIONS,
    kills: int = KILLS,
) -> Report:
    """Make `size` runs."""
    report = Report()
    asked = acknowledged = unanswered = runs = 0
    for seed in range(size):
        with tempfile.TemporaryDirectory() as folder:
            options = ("--store", ledger_in(Path(folder)), "--max-queued", "8")
            place = Place(Path(folder))
            run = Run(seed, place.server(*options, breaking=breaking), place, operations, kills)
            problems = asyncio.run(run.problems())
        runs += 1
        report.problems += [f"run {seed}: {problem}" for problem in problems]
        asked += len(run.record.attempts)
        acknowledged += run.record.acknowledged
        unanswered += sum(one.answer is None for one in run.record.attempts)
        advance(1)
        if breaking and problems:
            break
    report.note(f"runs of {operations:,} operations", runs, "50 of 10,000")
    report.note("requests", asked)
    report.note("acknowledged writes", acknowledged)
    report.note("requests left without an answer", unanswered)
    report.note("SIGKILLs", runs * kills)
    report.note("violations", len(report.problems), "0")
    return report


def check_bugs(size: int, advance: Advance = silent, *, operations: int = 2000) -> Report:
    """Plant each of the first `size` seeded bugs in turn: every one has to be found."""
    report = Report()
    caught = 0
    for name in BUGS[:size]:
        found = check(3, breaking=name, operations=operations, kills=2)
        report.require(bool(found.problems), f"the bug {name} was not found")
        caught += bool(found.problems)
        advance(1)
    report.note("seeded bugs caught", f"{caught} of {len(BUGS[:size])}", "all")
    return report


class Place:
    """A folder with what a server of a run needs besides a store: the catalogue, and how its clock leaps.

    Args:
        folder: It exists.
        tolerance_s: See ServerClock.
    """

    def __init__(self, folder: Path, tolerance_s: float = 1) -> None:
        self._leaps = folder / "leaps"
        self._catalogue = catalogue_in(folder)
        self.offset = SharedOffset(self._leaps)
        self.clock = ServerClock(self.offset, tolerance_s)

    def server(self, *options: str, breaking: str = "") -> ServerProcess:
        """A server there, not started yet."""
        mine = ("--catalogue", self._catalogue)
        return ServerProcess(*mine, *options, breaking=breaking, FAULTS_LEAPS=str(self._leaps))


class Run:
    """Concurrent clients and a server that is struck now and then.

    Args:
        seed: Of everything that is chosen at random, but for the order of events.
        server: Not started yet, made by `place`.
        place: With its clock, which leaps now and then.
        operations: How many requests, about.
        strikes: How often it is struck.
        strike: Does it, and returns when it is over; by default the server is killed.
        pause_s: How long a caller waits, at most, after a request without an answer.
    """

    def __init__(
        self,
        seed: int,
        server: ServerProcess,
        place: Place,
        operations: int,
        strikes: int,
        *,
        strike: Callable[[], Awaitable[None]] | None = None,
        pause_s: float = 0,
    ) -> None:
        self.random = Random(seed)
        self.record = Record(place.clock)
        self.requests = Requests(self.random, place.clock, USERS)
        self.offset = place.offset
        self.server = server
        self.left = operations
        self.strike_at = sorted(self.random.sample(range(1, operations), strikes))
        self.strike = strike or self._kill
        self.pause_s = pause_s
        self.up = asyncio.Event()

    async def problems(self) -> list[str]:
        """Run, and hold what was answered against the ledger: every violation as a sentence."""
        with self.server:
            self.up.set()
            async with grpc.aio.insecure_channel(self.server.address, CHANNEL_OPTIONS) as channel:
                self.stub = EntitlementServiceStub(channel)
                striking = asyncio.ensure_future(self._strike())
                try:
                    await asyncio.gather(*(self._client() for _ in range(CLIENTS)))
                    await striking
                    for request in self.record.unsettled():
                        await self._ask(request, None, patient=True)
                    for user_id in self.record.by_user():
                        await self._ask(ReadAccount(user_id), None, patient=True)
                    users = [f"user-{number}" for number in range(USERS)]
                    found = await read_histories(self.stub, users)
                except BrokenPromiseError as error:
                    return [str(error)]
                finally:
                    striking.cancel()
        return judge(self.record, found)

    async def _strike(self) -> None:
        for left in reversed(self.strike_at):
            while self.left > left:  # noqa: ASYNC110  # a number is what is waited for
                await asyncio.sleep(0.001)
            await self.strike()

    async def _kill(self) -> None:
        self.up.clear()
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)
        self.up.set()

    async def _client(self) -> None:
        random = self.random
        while self.left > 0:
            self.left -= 1
            if random.random() < LEAP_RATE:
                self.offset.leap(random.choice(LEAPS_S))
            await self.up.wait()
            if random.random() < 0.05:
                await self._ask_together()
                continue
            timeout = random.uniform(0.001, 0.03) if random.random() < 0.1 else None
            asking = asyncio.ensure_future(self._ask(self.requests.next(), timeout))
            patience = random.uniform(0, 0.02) if random.random() < 0.1 else None
            done, _ = await asyncio.wait([asking], timeout=patience)
            if not done:
                asking.cancel()
                done, _ = await asyncio.wait([asking])
            if not asking.cancelled():
                asking.result()

    async def _ask(self, request: Request, limit_s: float | None, *, patient: bool = False) -> None:
        while True:
            attempt = self.record.begin(request)
            answer = await send(self.stub, request, limit_s)
            if answer is not None:
                self.record.end(attempt, answer)
            if isinstance(answer, Charged):
                self.requests.saw(answer.line)
            if answer is None and self.pause_s:
                await asyncio.sleep(self.random.uniform(0, self.pause_s))
            if answer is not None or not patient:
                return

    async def _ask_together(self) -> None:
        made = [self.requests.next_write() for _ in range(6)]
        charges = [one for one in made if isinstance(one, Consume)]
        if not charges:
            return
        attempts = [self.record.begin(one) for one in charges]
        for attempt, answer in zip(attempts, await send_together(self.stub, charges), strict=True):
            if answer is not None:
                self.record.end(attempt, answer)
