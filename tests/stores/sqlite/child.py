"""A process that commits until it is killed, and prints each transaction once it is durable."""

import asyncio
import sys
from itertools import count
from pathlib import Path

from entitlements_server.instrumentation.logs import configure_logs
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import TopUp
from entitlements_server.ledger.decide import bind
from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.stores.sqlite import SqliteStore
from entitlements_server.stores.sqlite import store as sqlite_store

TIME_US = 1_790_000_000_000_000


async def main(path: Path) -> None:
    # Small, so that batches are flushed all the time.
    sqlite_store.SEGMENT_SIZE = 20
    sqlite_store.MIN_FLUSH_SIZE = 4
    store = await SqliteStore.open(path)
    for number in count():
        group = [
            TopUp(user_id=f"u-{(number * 3 + index) % 7}", amount=1, idempotency_key=f"k-{number}")
            for index in range(3)
        ]
        outcomes = await store.commit(group, bind(BUILT_IN, TIME_US))
        for outcome in outcomes:
            assert isinstance(outcome, Recorded)
            made = outcome.transaction
            sys.stdout.write(f"{made.user_id} {made.transaction_id}\n")
        sys.stdout.flush()


configure_logs("console", "warning")
asyncio.run(main(Path(sys.argv[1])))
