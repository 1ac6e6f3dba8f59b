"""Concurrent clients on a real server that is killed now and then; the judge reads the record.

Requests quarrel on purpose: few users, few tokens, keys used twice, deadlines of a few milliseconds,
calls given up, batches, a queue that is soon full. See `judge.py` for what has to hold.
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
from faults.figures import Advance, Report, silent
from faults.judge import judge
from faults.records import Charged, Record, Request
from faults.requests import Requests
from faults.servers import CHANNEL_OPTIONS, ledger_in
from faults.wire import BrokenPromiseError, read_histories, send, send_together
from support.server_process import ServerProcess

OPERATIONS = 10_000
USERS = 20
CLIENTS = 24
KILLS = 3
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
            run = Run(seed, ServerProcess(*options, breaking=breaking), operations, kills)
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
    report.note("seeded bugs caught", f"{caught} of {len(BUGS[:size])}", "10 of 10")
    return report


class Run:
    """Concurrent clients and a server that is struck now and then.

    Args:
        seed: Of everything that is chosen at random, but for the order of events.
        server: Not started yet.
        operations: How many requests, about.
        strikes: How often it is struck.
        strike: Does it, and returns when it is over; by default the server is killed.
        pause_s: How long a caller waits, at most, after a request without an answer.
    """

    def __init__(
        self,
        seed: int,
        server: ServerProcess,
        operations: int,
        strikes: int,
        *,
        strike: Callable[[], Awaitable[None]] | None = None,
        pause_s: float = 0,
    ) -> None:
        self.random = Random(seed)
        self.record = Record()
        self.requests = Requests(self.random, USERS)
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
