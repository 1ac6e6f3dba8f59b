"""Restarts under clients that retry: SIGTERM, drain, start again, and the application sees nothing.

One server has one ledger file, so this is a restart of the one server and not of one among several.
The clients are this project's own, with their own retries. An application that sees a failure all the
same asks again with the same key, as the error says; each of those is counted.
"""

import asyncio
import tempfile
import time
import uuid
from pathlib import Path

from entitlements import AsyncEntitlementClient, EntitlementError
from faults.figures import Advance, Report, silent
from faults.servers import ledger_in
from support.server_process import ServerProcess

CLIENTS = 8
TOKENS = 10**9
CHARGES_BETWEEN = 200
DEADLINE_S = 60.0
MOST_TIMES_ASKED = 20
PATIENCE_S = 2.0
"""A restart that takes longer than this, on a machine that is busy with other things, may outlast the
five tries of a client: failures in it are counted apart."""


def check(
    size: int, advance: Advance = silent, *, breaking: str = "", strict: bool = True
) -> Report:
    """Restart the server `size` times.

    Unless `strict`, only what is charged twice, lost, or never settled is a problem: a test must not
    depend on how busy its machine is.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_Run(Path(folder), breaking, strict=strict).go(size, advance))


class _Run:
    def __init__(self, folder: Path, breaking: str, *, strict: bool) -> None:
        self.strict = strict
        self.server = ServerProcess("--store", ledger_in(folder), breaking=breaking)
        self.breaking = breaking
        self.charged: list[str] = []
        self.served: set[int] = set()
        self.failures: list[tuple[float, str]] = []
        self.longest = 0.0
        self.stopping = False
        self.away: list[tuple[float, float]] = []

    async def go(self, restarts: int, advance: Advance) -> Report:
        report = Report()
        with self.server:
            async with self._client() as client:
                await client.top_up("ada", TOKENS)
            applications = [
                asyncio.ensure_future(self._application(number)) for number in range(CLIENTS)
            ]
            for number in range(restarts):
                await self._charges((number + 1) * CHARGES_BETWEEN)
                # The control does not let the server finish what it has begun.
                abrupt = self.breaking == "reply-before-commit"
                begin = time.monotonic()
                await asyncio.to_thread(self.server.kill if abrupt else self.server.stop)
                await asyncio.to_thread(self.server.start)
                self.away.append((begin, time.monotonic()))
                advance(1)
            await self._charges((restarts + 1) * CHARGES_BETWEEN)
            self.stopping = True
            await asyncio.gather(*applications)
            async with self._client() as client:
                account = await client.get_account("ada")
        seen = [problem for when, problem in self.failures if not self._is_excused(when)]
        kept = account.transaction_count - 1
        told = len(self.charged)
        report.note("restarts", restarts, "20")
        report.note("charges that were answered", told)
        report.note("failures that the application saw", len(seen), "0")
        slow = f"failures in restarts of over {PATIENCE_S:.0f} s, settled by a retry"
        report.note(slow, len(self.failures) - len(seen))
        report.note("charges made twice or lost", abs(kept - told), "0")
        report.note("longest restart, seconds", max(end - begin for begin, end in self.away))
        report.note("longest call, seconds", self.longest)
        report.problems += seen if self.strict else []
        report.require(len(set(self.charged)) == told, "one charge was answered twice")
        report.require(
            kept == told and account.balance == TOKENS - 2 * kept,
            f"{told} charges were answered and {kept} are in the ledger",
        )
        return report

    def _is_excused(self, when: float) -> bool:
        """Whether a failure belongs to a restart that took longer than clients wait."""
        return any(
            begin <= when <= end + 1 and end - begin > PATIENCE_S for begin, end in self.away
        )

    def _client(self) -> AsyncEntitlementClient:
        return AsyncEntitlementClient(self.server.address, deadline_s=DEADLINE_S)

    async def _charges(self, count: int) -> None:
        """Wait for so many charges in all, and for one of each application from now on.

        A fast server makes the charges before every application has found it again, and five tries
        that meet three restarts are no fault of anyone.
        """
        self.served.clear()
        while len(self.charged) < count or len(self.served) < CLIENTS:  # noqa: ASYNC110  # numbers
            await asyncio.sleep(0.005)

    async def _application(self, number: int) -> None:
        async with self._client() as client:
            while not self.stopping:
                begin = time.monotonic()
                self.charged.append(await self._charge(client, str(uuid.uuid4())))
                self.served.add(number)
                self.longest = max(self.longest, time.monotonic() - begin)

    async def _charge(self, client: AsyncEntitlementClient, key: str) -> str:
        for _ in range(MOST_TIMES_ASKED):
            try:
                made = await client.consume("ada", "full_distribution", idempotency_key=key)
            except EntitlementError as error:
                problem = f"{type(error).__name__}: {error}"
                self.failures.append((time.monotonic(), problem))
            else:
                return made.transaction_id
        raise AssertionError("A charge was never settled.")
