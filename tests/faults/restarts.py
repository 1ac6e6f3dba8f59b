"""Restarts under clients that retry: SIGTERM, drain, start again, and the application sees nothing.

One server has one ledger file, so this is a restart of the one server and not of one among several.
The clients are this project's own, with their own retries and nothing around them.
"""

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

from entitlements import AsyncEntitlementClient, EntitlementError
from faults.figures import Advance, Report, silent
from faults.servers import Server

CLIENTS = 8
TOKENS = 10**9
CHARGES_BETWEEN = 200
DEADLINE_S = 60.0


def check(size: int, advance: Advance = silent, *, breaking: str = "") -> Report:
    """Restart the server `size` times."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_Run(Path(folder), breaking).go(size, advance))


class _Run:
    def __init__(self, folder: Path, breaking: str) -> None:
        self.server = Server(folder, breaking=breaking)
        self.breaking = breaking
        self.charged: list[str] = []
        self.failures: list[str] = []
        self.longest = 0.0
        self.stopping = False

    async def go(self, restarts: int, advance: Advance) -> Report:
        report = Report()
        with self.server:
            await asyncio.to_thread(self.server.start)
            async with self._client() as client:
                await client.top_up("ada", TOKENS)
            applications = [asyncio.ensure_future(self._application()) for _ in range(CLIENTS)]
            for number in range(restarts):
                await self._charges((number + 1) * CHARGES_BETWEEN)
                # The control does not let the server finish what it has begun.
                abrupt = self.breaking == "reply-before-commit"
                await asyncio.to_thread(self.server.kill if abrupt else self.server.stop)
                await asyncio.to_thread(self.server.start)
                advance(1)
            await self._charges((restarts + 1) * CHARGES_BETWEEN)
            self.stopping = True
            await asyncio.gather(*applications)
            async with self._client() as client:
                account = await client.account("ada")
        kept = account.transaction_count - 1
        report.note("restarts", restarts, "20")
        report.note("charges that the application was told of", len(self.charged))
        report.note("failures seen by the application", len(self.failures), "0")
        report.note("charges made twice or lost", abs(kept - len(set(self.charged))), "0")
        report.note("longest call, seconds", self.longest)
        report.problems += self.failures
        report.require(len(set(self.charged)) == len(self.charged), "one charge was told twice")
        report.require(
            kept == len(self.charged) and account.balance == TOKENS - 2 * kept,
            f"{len(self.charged)} charges were told and {kept} are in the ledger",
        )
        return report

    def _client(self) -> AsyncEntitlementClient:
        return AsyncEntitlementClient(self.server.address, deadline_s=DEADLINE_S)

    async def _charges(self, count: int) -> None:
        while len(self.charged) + len(self.failures) < count:
            await asyncio.sleep(0.005)

    async def _application(self) -> None:
        async with self._client() as client:
            for number in itertools.count():
                if self.stopping:
                    return
                begin = time.monotonic()
                try:
                    made = await client.consume(
                        "ada", "full_distribution", event_id=f"event-{number}"
                    )
                    self.charged.append(made.transaction_id)
                except EntitlementError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                self.longest = max(self.longest, time.monotonic() - begin)
