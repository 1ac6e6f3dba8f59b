"""Workers of `serve --workers` that are killed, one every second, under clients that retry.

The clients are this project's own, with their own retries, each on a connection of its own: a call that was in
flight in a killed worker is sent again under its key, and the application sees nothing of it. In the end the
ledger in PostgreSQL is compared with what every application was told.
"""

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path
from random import Random
from unittest.mock import patch

from entitlements import AsyncEntitlementClient, EntitlementError, _channel
from entitlements_server.ledger.values import Kind
from entitlements_server.stores.factory import open_store
from faults.figures import Advance, Report, silent
from support.ledger import whole_history
from support.postgresql import PostgresqlServer
from support.server_process import ServerProcess

WORKERS = 4
CLIENTS = 16
TOKENS = 10**9
DEADLINE_S = 30.0
EVERY_S = 1.0
MAX_ASKED = 20


def check(
    size: int, advance: Advance = silent, *, breaking: str = "", strict: bool = True
) -> Report:
    """Kill `size` workers, one every second.

    Unless `strict`, only what is lost or charged twice is a problem, and no failure that a client reports: a test
    must not depend on how busy its machine is.
    """
    own_connections = (*_channel._OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    with PostgresqlServer() as postgresql, patch.object(_channel, "_OPTIONS", own_connections):
        return asyncio.run(_Run(postgresql.url, breaking, strict=strict).go(size, advance))


class _Run:
    def __init__(self, url: str, breaking: str, *, strict: bool) -> None:
        self.url = url
        self.strict = strict
        self.server = ServerProcess("--workers", str(WORKERS), "--store", url, breaking=breaking)
        self.told: dict[str, str] = {}
        self.failures: list[str] = []
        self.stopping = False

    async def go(self, kills: int, advance: Advance) -> Report:
        report = Report()
        users = [f"user-{number}" for number in range(CLIENTS // 2)]
        with self.server:
            async with self._client() as client:
                for user in users:
                    await client.top_up(user, TOKENS)
            applications = [
                asyncio.ensure_future(self._application(users[number % len(users)]))
                for number in range(CLIENTS)
            ]
            await self._kill(kills, advance)
            self.stopping = True
            await asyncio.gather(*applications)
            replaced = self.server.log.count("A worker serves again.")
        lost, doubled = await self._compare(users)
        report.note("workers killed", kills, "60")
        report.note("workers that served again", replaced)
        report.note("charges that applications were told of", len(self.told))
        report.note("failures that applications saw", len(self.failures), "0")
        report.note("charges lost", lost, "0")
        report.note("keys charged twice", doubled, "0")
        report.problems += self.failures if self.strict else []
        report.require(lost == 0, f"{lost} charges that were told are not in the ledger")
        report.require(doubled == 0, f"{doubled} keys were charged more than once")
        report.require(bool(self.told), "nothing was charged")
        return report

    def _client(self) -> AsyncEntitlementClient:
        return AsyncEntitlementClient(self.server.address, deadline_s=DEADLINE_S)

    async def _kill(self, count: int, advance: Advance) -> None:
        random = Random(count)
        for _ in range(count):
            told = len(self.told)
            await asyncio.sleep(EVERY_S)
            # Under load: something was charged since the one before.
            while len(self.told) == told:  # noqa: ASYNC110  # a number
                await asyncio.sleep(0.005)
            # One of those that serve: the older half.
            os.kill(random.choice(self._workers()[: WORKERS // 2]), signal.SIGKILL)
            advance(1)

    def _workers(self) -> list[int]:
        pid = self.server.pid
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    async def _application(self, user: str) -> None:
        async with self._client() as client:
            while not self.stopping:
                key = str(uuid.uuid4())
                self.told[f"{user} {key}"] = await self._charge(client, user, key)

    async def _charge(self, client: AsyncEntitlementClient, user: str, key: str) -> str:
        for _ in range(MAX_ASKED):
            begin = time.monotonic()
            try:
                made = await client.consume(user, "full_distribution", idempotency_key=key)
            except EntitlementError as error:
                took_s = time.monotonic() - begin
                self.failures.append(f"after {took_s:.1f} s, {type(error).__name__}: {error}")
            else:
                return made.transaction_id
        raise AssertionError("A charge was never settled.")

    async def _compare(self, users: list[str]) -> tuple[int, int]:
        """Return how many charges are lost, and how many keys have more than one."""
        store = await open_store(self.url)
        there: dict[str, list[str]] = {}
        for user in users:
            for one in await whole_history(store, user):
                if one.kind is Kind.CONSUME:
                    key = f"{user} {one.idempotency_key}"
                    there.setdefault(key, []).append(one.transaction_id)
        await store.close()
        lost = sum(made not in there.get(key, ()) for key, made in self.told.items())
        return lost, sum(len(made) > 1 for made in there.values())
