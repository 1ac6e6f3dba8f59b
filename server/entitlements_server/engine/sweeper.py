"""Records what has lapsed of accounts of which nothing else is recorded.

No answer depends on it: every answer is computed from the settled account. It keeps balances near what can
be spent, and the due times few.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog
from cachetools import TTLCache

from entitlements_server.engine.engine import Engine
from entitlements_server.errors import CallError
from entitlements_server.ledger.commands import Settle
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.ledger.settlement import DELAY_US
from entitlements_server.stores.interface import MAX_PAGE, Store

log = structlog.get_logger()

POLL_S = 5.0
"""How often to look for what has lapsed, if there was nothing."""

MAX_BATCH = 64
"""Most accounts that are settled in one group."""

MAX_SHARE = 0.1
"""Most of the time that its groups may take: after each it waits nine times as long as that took."""

MAX_STUCK = MAX_PAGE // 2
"""Most accounts that are passed over because nothing could be recorded of them, as of damaged ones."""

STUCK_S = 600.0
"""Seconds after which such an account is tried again."""


class Sweeper:
    """Settles accounts whose due time has passed, a page of those that are longest due at a time.

    Several servers may sweep one ledger: what another has settled records nothing again.

    Args:
        store: Where due times are read.
        engine: Where accounts are settled, in groups with the commands of callers.
        clock_us: The time, microseconds since 1970 UTC.
    """

    def __init__(self, store: Store, engine: Engine, clock_us: Callable[[], int]) -> None:
        self._store = store
        self._engine = engine
        self._clock_us = clock_us
        self._oldest_us = 0
        self._stuck: TTLCache[str, None] = TTLCache(MAX_STUCK, STUCK_S)

    @property
    def lag_s(self) -> float:
        """Seconds since when something should have been recorded that is not; 0: nothing waits."""
        if not self._oldest_us:
            return 0.0
        return max((self._clock_us() - DELAY_US - self._oldest_us) / SECOND_US, 0.0)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                found = await self._sweep()
            except CallError as error:
                log.info("The sweeper pauses.", cause=str(error))
                found = False
            except Exception:
                # Whatever it is, what has lapsed is recorded by the next command of its user.
                log.exception("The sweeper failed, and goes on after a pause.")
                found = False
            if not found:
                await asyncio.sleep(POLL_S)

    async def _sweep(self) -> bool:
        """Settle a page of accounts. Returns whether there were any."""
        due = await self._store.due(self._clock_us() - DELAY_US, MAX_PAGE)
        users = [user_id for user_id in due if user_id not in self._stuck]
        if not users:
            self._oldest_us = 0
            return False
        self._oldest_us = (await self._store.account(users[0])).due_us
        batches = [users[n : n + MAX_BATCH] for n in range(0, len(users), MAX_BATCH)]
        # The servers of one ledger read the same page: few should settle the same batch at a time.
        random.shuffle(batches)
        for batch in batches:
            await self._settle(batch)
        return True

    async def _settle(self, users: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        results = await self._engine.submit([Settle(user_id=user_id) for user_id in users])
        took_s = loop.time() - started_s
        for user_id, result in zip(users, results, strict=True):
            if not isinstance(result, Recorded):
                self._stuck[user_id] = None
        await asyncio.sleep(pause_after_s(took_s))


def pause_after_s(took_s: float) -> float:
    """Return how long to wait after a group that took so long, in seconds."""
    return took_s * (1 / MAX_SHARE - 1)
