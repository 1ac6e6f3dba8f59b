"""Power losses under load: whatever the platter has kept, nothing that was acknowledged is missing.

The store runs on its real threads over the disk layer. At chosen I/O calls one of the states that a
power loss could leave is laid down in a folder of its own; afterwards each is opened as an operator
would open it, and the judge compares it with what clients knew at that moment. The last of a round
is where the next round goes on, so that losses hit recoveries and their leftovers, too.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from entitlements_server.engine.engine import Engine
from entitlements_server.stores.interface import StoreConfigurationError
from entitlements_server.stores.sqlite import SqliteStore
from faults.breaks import broken
from faults.catalogue import CATALOGUE
from faults.clocks import LeapingClock
from faults.disk import Disk, DiskLayer
from faults.engine_client import client, histories, settle, sweeping
from faults.figures import Advance, Report, silent
from faults.judge import judge
from faults.records import Record
from faults.requests import Requests
from faults.small import FASTEST_FOLDER, own_syncs_reach, small_store

LOSSES_A_ROUND = 20
ROUNDS_A_LEDGER = 5
CLIENTS = 6
REQUESTS = 40
CALLS_A_ROUND = 600
"""About as many I/O calls as the requests of a round take: losses are spread over them."""


@dataclass(slots=True)
class _Loss:
    """A power loss: what was known when it came, and what it left."""

    tick: int
    folder: Path


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Lose power `size` times."""
    report = Report()
    run = _Run(Random(seed), report)
    with (
        broken(breaking),
        small_store(segment=24, batch=8, cached=3, checkpoint_pages=40),
        tempfile.TemporaryDirectory(dir=FASTEST_FOLDER) as root,
    ):
        rounds = 0
        while run.losses < size:
            if rounds % ROUNDS_A_LEDGER == 0:
                folder = run.new_ledger(Path(root))
            rounds += 1
            asyncio.run(run.round(folder, min(LOSSES_A_ROUND, size - run.losses), advance))
            folder = run.next_folder
            if breaking and report.problems:
                break
    report.note("power losses", run.losses, "1,000")
    report.note("acknowledged writes", run.acknowledged)
    report.note("losses after which something acknowledged was missing or wrong", run.bad, "0")
    return report


class _Run:
    def __init__(self, random: Random, report: Report) -> None:
        self.random = random
        self.report = report
        self.clock = LeapingClock(random)
        self.record = Record(self.clock)
        self.requests = Requests(random, self.clock, users=5)
        self.losses = self.bad = self.acknowledged = self.acknowledged_before = 0
        self.next_folder = Path()

    def new_ledger(self, root: Path) -> Path:
        """Begin again, with nothing."""
        self.acknowledged_before += self.record.acknowledged
        self.record = Record(self.clock)
        self.requests = Requests(self.random, self.clock, users=5)
        folder = root / f"new-{self.losses}"
        folder.mkdir()
        return folder

    async def round(self, folder: Path, count: int, advance: Advance) -> None:
        """Work on a ledger, lose power at `count` moments, and look at each of them."""
        losses = await self._work(folder, count)
        self.acknowledged = self.acknowledged_before + self.record.acknowledged
        for loss in losses:
            record = self.record.as_of(loss.tick)
            problems = await self._look(loss.folder, record, settling=loss is losses[-1])
            self.bad += bool(problems)
            self.report.problems += [
                f"power loss {self.losses} ({loss.folder.name}): {problem}" for problem in problems
            ]
            self.losses += 1
            advance(1)
            if loss is losses[-1]:
                # What clients knew then, and what they found out since.
                self.record, self.next_folder = record, loss.folder

    async def _work(self, folder: Path, count: int) -> Sequence[_Loss]:
        disk = Disk()
        disk.adopt(folder)
        # The last one comes when all is quiet, but for the store being open.
        planned = sorted(self.random.sample(range(1, CALLS_A_ROUND), count - 1))
        losses: list[_Loss] = []

        def lose() -> None:
            left = folder.parent / f"{self.losses + len(losses) + 1}"
            left.mkdir()
            # First the moment, then the image: an answer in between was durable in time.
            losses.append(_Loss(self.record.tick(), left))
            disk.crash(self.random, left)

        def at_call(call: str, _name: str) -> None:
            if call in ("read", "open"):
                return  # It changes nothing, and may come from the reading thread.
            while len(losses) < len(planned) and disk.calls >= planned[len(losses)]:
                lose()

        disk.fail = at_call
        layer = DiskLayer(f"power-{id(disk)}", disk)
        with own_syncs_reach(disk):
            store = await SqliteStore.open(folder / "ledger.sqlite", vfs=layer.vfs_name)
            engine = self._engine(store)
            await settle(engine, store, self.record)
            with sweeping(store, engine, self.clock):
                await asyncio.gather(
                    *(
                        client(
                            engine,
                            store,
                            self.record,
                            self.requests,
                            random=self.random,
                            count=REQUESTS,
                        )
                        for _ in range(CLIENTS)
                    )
                )
            while len(losses) < count:
                lose()
            await engine.close()
            await store.close()
        layer.unregister()
        return losses

    def _engine(self, store: SqliteStore) -> Engine:
        return Engine(store, lambda: CATALOGUE, clock_us=self.clock.now_us)

    async def _look(self, folder: Path, record: Record, *, settling: bool) -> list[str]:
        try:
            store = await SqliteStore.open(folder / "ledger.sqlite")
        except StoreConfigurationError as error:
            return [f"the ledger does not open any more: {error}"]
        try:
            problems = judge(record, await histories(store))
            if settling and not problems:
                await settle(self._engine(store), store, record)
                problems = judge(record, await histories(store))
        finally:
            await store.close()
        return problems
