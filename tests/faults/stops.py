"""Clean stops under load, again and again: each leaves one file, which alone holds everything.

Callers charge in batches and read meanwhile; SIGTERM comes after some number of answers. Then the folder
has one file. It is copied away, alone, and the copy verifies and has every charge that was acknowledged,
under the same id.
"""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from entitlements_server.maintenance.paging import account_pages, oldest_first
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.sqlite import SqliteStore
from faults.figures import Advance, Report, silent
from faults.servers import CHANNEL_OPTIONS, ledger_in
from support.server_process import ServerProcess

if TYPE_CHECKING:
    # Known to type checkers only: at run time both clients have one class.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

USERS = [f"user-{number}" for number in range(20)]
TOKENS = 10**12
BATCH = 10
CALLERS = 4
BEFORE_A_STOP = (1, 60)
"""How many batches are answered before a stop."""

STOPS_PER_LEDGER = 20
"""Then a new ledger begins: to verify a longer one takes longer and shows the same."""

_STOPPING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""What calls end with that cross the end of a server; CANCELLED by gRPC's core, rarely."""


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Stop the server `size` times."""
    report = Report()
    random = Random(seed)
    stops = acknowledged = 0
    while stops < size and not (breaking and report.problems):
        with tempfile.TemporaryDirectory() as folder:
            run = _Run(random, Path(folder), breaking)
            count = min(STOPS_PER_LEDGER, size - stops)
            asyncio.run(run.go(count, advance))
        report.problems += [f"ledger {stops // STOPS_PER_LEDGER}, {one}" for one in run.problems]
        stops += count
        acknowledged += len(run.acknowledged)
    report.note("clean stops under load", stops, "1,000")
    report.note("acknowledged charges", acknowledged)
    report.note("stops that left something else than one whole file", len(report.problems), "0")
    return report


class _Run:
    def __init__(self, random: Random, folder: Path, breaking: str) -> None:
        self.random = random
        self.folder = folder / "ledger"
        self.elsewhere = folder / "copy"
        self.folder.mkdir()
        self.server = ServerProcess("--store", ledger_in(self.folder), breaking=breaking)
        self.acknowledged: dict[str, str] = {}
        self.numbers = itertools.count()
        self.problems: list[str] = []

    async def go(self, stops: int, advance: Advance) -> None:
        with self.server:
            for number in range(stops):
                if number:
                    await asyncio.to_thread(self.server.start)
                await self._load_until_stopped(first=not number)
                self.problems += [f"stop {number}: {one}" for one in await self._look()]
                advance(1)

    async def _load_until_stopped(self, *, first: bool) -> None:
        left = itertools.count(-self.random.randint(*BEFORE_A_STOP))
        stopping = asyncio.Event()
        async with grpc.aio.insecure_channel(self.server.address, CHANNEL_OPTIONS) as channel:
            stub = EntitlementServiceStub(channel)
            if first:
                for user_id in USERS:
                    await stub.TopUp(pb.TopUpRequest(user_id=user_id, amount=TOKENS))

            async def call() -> None:
                while not stopping.is_set() and await self._charge(stub):
                    if next(left) >= 0:
                        stopping.set()
                # Some more, which meet a server that is stopping.
                while await self._charge(stub):
                    pass

            calls = [asyncio.ensure_future(call()) for _ in range(CALLERS)]
            await stopping.wait()
            await asyncio.to_thread(self.server.stop)
            await asyncio.gather(*calls)

    async def _charge(self, stub: "EntitlementServiceAsyncStub") -> bool:
        """Charge a batch, and read; returns whether both were answered."""
        user_id = self.random.choice(USERS)
        charges = [
            pb.ConsumeRequest(
                user_id=self.random.choice(USERS),
                feature="full_distribution",
                idempotency_key=f"key-{next(self.numbers)}",
            )
            for _ in range(BATCH)
        ]
        try:
            response = await stub.BatchConsume(pb.BatchConsumeRequest(requests=charges))
            for request, result in zip(charges, response.results, strict=True):
                made = result.response.transaction.transaction_id
                self.acknowledged[request.idempotency_key] = made
            await stub.ListTransactions(pb.ListTransactionsRequest(user_id=user_id))
        except grpc.aio.AioRpcError as error:
            if error.code() not in _STOPPING:
                raise
            return False
        return True

    async def _look(self) -> list[str]:
        """Look at what the stop has left: every violation as a sentence."""
        left = sorted(one.name for one in self.folder.iterdir())
        problems = [] if left == ["ledger.sqlite"] else [f"it left {left}"]
        self.elsewhere.mkdir()
        copy = self.elsewhere / "ledger.sqlite"
        shutil.copyfile(self.folder / "ledger.sqlite", copy)
        store = await SqliteStore.open(copy)
        try:
            problems += [str(finding) async for finding in verify(store)]
            found: dict[str, str] = {}
            async for page in account_pages(store):
                for account in page.accounts:
                    async for one in oldest_first(store, account):
                        found[one.idempotency_key] = one.transaction_id
        finally:
            await store.close()
        missing = [key for key, made in self.acknowledged.items() if found.get(key) != made]
        if missing:
            problems.append(
                f"{len(missing)} acknowledged charges are missing, such as {missing[0]}"
            )
        shutil.rmtree(self.elsewhere)
        return problems
