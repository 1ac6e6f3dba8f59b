"""A soak of charges, a tenth of them given up: memory of the server stays.

What a call does not free shows only over many of them. What is not indexed yet comes and goes, up to
32,768 transactions, and caches fill: only a warm-up longer than that, and then some, shows what stays.
"""

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import psutil

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from faults.figures import Advance, Report, silent
from faults.servers import CHANNEL_OPTIONS, ledger_in
from faults.volleys import Seen, Volleys
from support.server_process import ServerProcess

IN_FLIGHT = 128
USERS = 10_000
TOKENS = 10**9
VOLLEY = 100_000
"""Calls sent together; a twentieth of all where those are few."""

EARLY, WARM_UP = 0.1, 0.3
"""Shares of the calls after which memory is measured. It must not grow after the second."""

MISSED = 0.8
"""Share of the calls with a deadline that have to miss it, at the least."""

LATE = {"OK", "DeadlineExceeded", "Canceled", "Unavailable"}
"""How they may end. The last is what the server says of a call whose time is up before its turn."""

GROWTH = 0.05


def check(
    size: int,
    advance: Advance = silent,
    *,
    breaking: str = "",
    growth: float = GROWTH,
    missed: float = MISSED,
) -> Report:
    """Make `size` Consume calls, each under a key of its own; one that is rejected is a problem."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_Run(Path(folder), breaking).go(size, advance, growth, missed))


class _Run:
    def __init__(self, folder: Path, breaking: str) -> None:
        self.folder = folder
        self.server = ServerProcess("--store", ledger_in(folder), breaking=breaking)
        self.patient: Counter[str] = Counter()
        self.hurried: Counter[str] = Counter()
        self.given_up = self.given_up_warm = 0
        self.memory: dict[float, float] = {}
        self.seconds = 0.0

    async def go(self, size: int, advance: Advance, growth: float, missed: float) -> Report:
        with self.server:
            users = max(min(USERS, size // 10), 1)
            await self._fund(users)
            await self._fire(Volleys(self.server.address, self.folder, users), size, advance)
        return self._report(size, growth, missed)

    async def _fund(self, users: int) -> None:
        numbers = iter(range(users))
        async with grpc.aio.insecure_channel(self.server.address, CHANNEL_OPTIONS) as channel:
            stub = EntitlementServiceStub(channel)

            async def top_up() -> None:
                for number in numbers:
                    await stub.TopUp(
                        pb.TopUpRequest(user_id=f"user-{number}", amount=TOKENS, reason="soak")
                    )

            await asyncio.gather(*(top_up() for _ in range(IN_FLIGHT)))

    async def _fire(self, volleys: Volleys, size: int, advance: Advance) -> None:
        begin = time.monotonic()
        made, each = 0, max(min(VOLLEY, size // 20), 1)
        while made < size:
            volley = min(each, size - made)
            self._take_in(await volleys.fire(volley))
            made += volley
            advance(volley)
            for share in (EARLY, WARM_UP, 1):
                if made >= size * share and share not in self.memory:
                    self.memory[share] = self._memory_mib()
                    self.given_up_warm = self.given_up if share < 1 else self.given_up_warm
        self.seconds = time.monotonic() - begin

    def _take_in(self, seen: Seen) -> None:
        self.patient += seen.patient
        self.hurried += seen.hurried
        self.given_up += seen.given_up

    def _memory_mib(self) -> float:
        return psutil.Process(self.server.pid).memory_info().rss / 2**20

    def _report(self, size: int, growth: float, missed: float) -> Report:
        report = Report()
        early, warm, end = (self.memory[share] for share in (EARLY, WARM_UP, 1))
        hurried = self.hurried.total()
        late = (hurried - self.hurried["OK"]) / hurried
        since = max(self.given_up - self.given_up_warm, 1)
        report.note("calls", size, "10,000,000")
        report.note("of these given up", self.given_up)
        report.note("calls a second", size / self.seconds)
        report.note("of those with a deadline missed it", f"{late:.0%}", f"over {MISSED:.0%}")
        report.note("server's memory after a tenth of the calls, MiB", early)
        report.note("server's memory after warm-up, MiB", warm)
        report.note("server's memory at the end, MiB", end)
        report.note("its growth after that", f"{end / warm - 1:+.1%}", "under 5%")
        report.note("bytes a call given up, server", (end - warm) * 2**20 / since)
        report.require(
            end < warm * (1 + growth), f"the server grew from {warm:.1f} to {end:.1f} MiB"
        )
        report.require(late > missed, f"only {late:.0%} of the deadlines were missed")
        report.require(
            set(self.patient) == {"OK"}, f"calls without a deadline ended {dict(self.patient)}"
        )
        report.require(
            set(self.hurried) <= LATE, f"calls with a deadline ended {dict(self.hurried)}"
        )
        return report
