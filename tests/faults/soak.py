"""A soak of charges, a tenth of them given up: memory of the server stays.

grpc.aio loses native memory when a task that awaits a call is cancelled
(https://github.com/grpc/grpc/issues/43360), on either side. `upstream_leak.py` counts it to the byte; here
is what becomes of it over many calls. What is not indexed yet comes and goes, up to 32,768 transactions,
and caches fill: only a warm-up longer than that, and then some, shows what stays.
"""

import asyncio
import tempfile
from pathlib import Path
from random import Random

import grpc
import psutil
import uvloop

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from faults.figures import Advance, Report, silent
from faults.servers import CHANNEL_OPTIONS, Server

IN_FLIGHT = 128
USERS = 10_000
TOKENS = 10**9
WARM_UP = 0.3
"""Share of the calls after which memory is first measured."""

CANCELLED = 0.1
GROWTH = 0.05


def check(
    size: int, advance: Advance = silent, *, breaking: str = "", growth: float = GROWTH
) -> Report:
    """Make `size` Consume calls, each under a key of its own; one that is refused ends the check."""
    # The client takes half of the machine: uvloop makes it shorter.
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_Run(Path(folder), breaking).go(size, advance, growth))


class _Run:
    def __init__(self, folder: Path, breaking: str) -> None:
        self.server = Server(folder, breaking=breaking)
        self.random = Random(1)
        self.left = 0
        self.users = 0
        self.given_up = 0
        self.samples: dict[int, tuple[float, float]] = {}

    async def go(self, size: int, advance: Advance, growth: float) -> Report:
        report = Report()
        self.left = size
        self.users = min(USERS, size // 10)
        tenth, warm = size - size // 10, size - round(size * WARM_UP)
        marks = {tenth, warm}
        with self.server:
            await asyncio.to_thread(self.server.start)
            async with grpc.aio.insecure_channel(self.server.address, CHANNEL_OPTIONS) as channel:
                stub = EntitlementServiceStub(channel)
                await self._fund(stub)
                await asyncio.gather(
                    *(self._caller(stub, marks, advance) for _ in range(IN_FLIGHT))
                )
            self._sample(0)
        (early, _), (server, client) = self.samples[tenth], self.samples[warm]
        server_end, client_end = self.samples[0]
        cancelled = max(self.given_up * (1 - WARM_UP), 1)
        report.note("calls", size, "10,000,000")
        report.note("of these given up", self.given_up)
        report.note("server's memory after a tenth of the calls, MiB", early)
        report.note("server's memory after warm-up, MiB", server)
        report.note("server's memory at the end, MiB", server_end)
        report.note("its growth after that", f"{server_end / server - 1:+.1%}", "under 5%")
        report.note("bytes a cancelled call, server", (server_end - server) * 2**20 / cancelled)
        report.note("client's growth after warm-up", f"{client_end / client - 1:+.1%}")
        report.note("bytes a cancelled call, client", (client_end - client) * 2**20 / cancelled)
        report.require(
            server_end < server * (1 + growth),
            f"the server grew from {server:.1f} to {server_end:.1f} MiB",
        )
        return report

    def _sample(self, left: int) -> None:
        assert self.server.process is not None
        server = psutil.Process(self.server.process.pid).memory_info().rss
        self.samples[left] = (server / 2**20, psutil.Process().memory_info().rss / 2**20)

    async def _fund(self, stub: EntitlementServiceStub) -> None:
        users = iter(range(self.users))

        async def top_up() -> None:
            for user in users:
                await stub.TopUp(
                    pb.TopUpRequest(user_id=f"user-{user}", amount=TOKENS, reason="soak")
                )

        await asyncio.gather(*(top_up() for _ in range(IN_FLIGHT)))

    async def _caller(
        self, stub: EntitlementServiceStub, marks: set[int], advance: Advance
    ) -> None:
        random = self.random
        while self.left > 0:
            self.left -= 1
            if self.left % 100 == 0:
                advance(100)
            if self.left in marks:
                self._sample(self.left)
            call = stub.Consume(
                pb.ConsumeRequest(
                    user_id=f"user-{random.randrange(self.users)}",
                    feature="full_distribution",
                    idempotency_key=f"{random.getrandbits(128):032x}",
                )
            )
            if random.random() >= CANCELLED:
                await call
                continue
            # Cancelled while a task awaits it: what the leak needs.
            waiting = asyncio.ensure_future(call.code())
            await asyncio.wait([waiting], timeout=random.choice((0, 0.001, 0.003)))
            call.cancel()
            await waiting
            self.given_up += 1
