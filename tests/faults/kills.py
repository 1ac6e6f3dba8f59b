"""SIGKILL under load, again and again; then everything unsettled is asked again, and audited.

The load is charges in batches, each with a key, from several callers at once. A charge that was
acknowledged has to be in the ledger under the same id, and every key exactly once.
"""

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from faults.figures import Advance, Report, silent
from faults.servers import CHANNEL_OPTIONS, ledger_in
from faults.wire import read_histories
from support.server_process import ServerProcess, run
from support.waiting import PATIENCE_S

if TYPE_CHECKING:
    # Known to type checkers only: at run time both clients have one class.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

USERS = [f"user-{number}" for number in range(50)]
TOKENS = 10**12
COST = 2
BATCH = 50
CALLERS = 4
BETWEEN_KILLS = (500, 4000)
"""How many acknowledged charges there are between two kills."""


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Kill the server `size` times."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(Random(seed), Path(folder), breaking)
        asyncio.run(run.go(size, advance, report))
    return report


class _Run:
    def __init__(self, random: Random, folder: Path, breaking: str) -> None:
        self.random = random
        self.store = ledger_in(folder)
        self.server = ServerProcess("--store", self.store, breaking=breaking)
        self.verified = False
        self.acknowledged: dict[str, str] = {}
        self.unsettled: list[pb.BatchConsumeRequest] = []
        self.numbers = itertools.count()
        self.keys_sent = self.refused = 0
        self.ready: list[float] = []
        self.problems: list[str] = []

    async def go(self, kills: int, advance: Advance, report: Report) -> None:
        with self.server:
            await self._top_up()
            for _ in range(kills):
                await self._load_until_killed()
                self.ready.append(await asyncio.to_thread(self._start_again))
                await self._settle()
                advance(1)
            await self._compare()
            await asyncio.to_thread(self._verify)
        report.problems += self.problems
        ready = sorted(self.ready)
        report.note("SIGKILLs", kills, "500")
        report.note("acknowledged charges", len(self.acknowledged), "1,000,000")
        report.note("batches unavailable though nobody was killed", self.refused)
        report.note("lost, double or changed", len(self.problems), "0")
        report.note("verify", "holds" if self.verified else "fails", "holds")
        report.note("seconds until it serves again, median", ready[len(ready) // 2])
        report.note("seconds until it serves again, worst", ready[-1], "2")

    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.server.address, CHANNEL_OPTIONS)

    def _start_again(self) -> float:
        """Start the server; returns after how many seconds it has answered a call."""
        begin = time.monotonic()
        self.server.start()
        with grpc.insecure_channel(self.server.address, CHANNEL_OPTIONS) as channel:
            stub = EntitlementServiceStub(channel)
            stub.ListFeatures(pb.ListFeaturesRequest(), timeout=PATIENCE_S, wait_for_ready=True)
        return time.monotonic() - begin

    async def _top_up(self) -> None:
        async with self._channel() as channel:
            stub = EntitlementServiceStub(channel)
            for user_id in USERS:
                await stub.TopUp(pb.TopUpRequest(user_id=user_id, amount=TOKENS))

    async def _load_until_killed(self) -> None:
        enough = len(self.acknowledged) + self.random.randint(*BETWEEN_KILLS)

        async def call(stub: "EntitlementServiceAsyncStub") -> None:
            while self.server.is_up:
                answered = await self._send(stub, self._batch())
                # A new channel may begin with what gRPC remembers of the killed server.
                self.refused += not answered and self.server.is_up
                if len(self.acknowledged) >= enough:
                    # In the middle of whatever the others are waiting for.
                    self.server.kill()

        async with self._channel() as channel:
            stub = EntitlementServiceStub(channel)
            await asyncio.gather(*(call(stub) for _ in range(CALLERS)))

    def _batch(self) -> pb.BatchConsumeRequest:
        charges = [
            pb.ConsumeRequest(
                user_id=self.random.choice(USERS),
                feature="full_distribution",
                idempotency_key=f"key-{next(self.numbers)}",
            )
            for _ in range(BATCH)
        ]
        self.keys_sent += BATCH
        return pb.BatchConsumeRequest(requests=charges)

    async def _send(
        self, stub: "EntitlementServiceAsyncStub", batch: pb.BatchConsumeRequest
    ) -> bool:
        try:
            response = await stub.BatchConsume(batch)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            self.unsettled.append(batch)
            return False
        for request, result in zip(batch.requests, response.results, strict=True):
            told = result.response.transaction.transaction_id
            self.acknowledged[request.idempotency_key] = told
        return True

    async def _settle(self) -> None:
        async with self._channel() as channel:
            stub = EntitlementServiceStub(channel)
            while self.unsettled:
                again, self.unsettled = self.unsettled, []
                for batch in again:
                    await self._send(stub, batch)

    def _verify(self) -> None:
        """Have the product's own audit look at what is left on the disk."""
        self.server.kill()
        done = run("verify", "--store", self.store)
        if done.returncode:
            self.problems.append(f"verify: {done.stdout}{done.stderr}")
        self.verified = not done.returncode

    async def _compare(self) -> None:
        """Hold the ledger against what was acknowledged."""
        async with self._channel() as channel:
            histories = await read_histories(EntitlementServiceStub(channel), USERS)
        made: Counter[str] = Counter()
        found: dict[str, str] = {}
        for user_id, lines in histories.items():
            balance = 0
            for place, line in enumerate(lines, start=1):
                follows = (line.sequence, line.balance_before) == (place, balance)
                if not follows or line.balance_after != balance + line.amount:
                    self.problems.append(f"{user_id}: does not follow {balance}: {line}")
                balance = line.balance_after
                if line.idempotency_key:
                    made[line.idempotency_key] += 1
                    found[line.idempotency_key] = line.transaction_id
            if balance != TOKENS - COST * (len(lines) - 1):
                self.problems.append(f"{user_id}: the balance is {balance} after {len(lines)}")
        self.problems += [
            f"{key} was charged {count} times" for key, count in made.items() if count > 1
        ]
        self.problems += [
            f"{key} was acknowledged as {told} and is {found.get(key, 'lost')}"
            for key, told in self.acknowledged.items()
            if found.get(key) != told
        ]
        if len(found) != self.keys_sent or len(self.acknowledged) != self.keys_sent:
            self.problems.append(
                f"{self.keys_sent} were sent, {len(self.acknowledged)} settled, {len(found)} kept"
            )
