"""Engine and SQLite store in a simulated world: a seed decides time, order, faults and power losses.

The product's own code runs, on a virtual loop and virtual threads, over a disk that fails, loses power
and tears writes. Several lives follow each other, each on what the crash before left on the platter.
In the end everything unsettled is asked again, and the judge looks at the record.
"""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from random import Random
from unittest.mock import patch

import apsw

from entitlements_server.engine import sweeper
from entitlements_server.engine.engine import Engine
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.sqlite import SqliteStore
from faults.breaks import broken
from faults.catalogue import CATALOGUE
from faults.clocks import LeapingClock
from faults.disk import Disk, DiskLayer
from faults.engine_client import client, histories, settle, sweeping
from faults.figures import Advance, Report, silent
from faults.judge import judge
from faults.records import Line, Record
from faults.requests import Requests
from faults.small import FASTEST_FOLDER, own_syncs_reach, small_store
from faults.virtual import VirtualLoop, VirtualThread

WAL_HEADER_SIZE = 32
ERRORS = (apsw.FullError, apsw.IOError)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What became of one seed.

    Attributes:
        problems: Violations, as sentences.
        trace: A digest of everything that happened: I/O calls, answers and the final ledger.
        acknowledged: Writes that were answered.
        crashes: Power losses.
        failures: I/O calls that failed.
        helped: Starts before which an operator had to move a log away.
    """

    problems: list[str]
    trace: str
    acknowledged: int
    crashes: int
    failures: int
    helped: int


def simulate(seed: int, breaking: str = "") -> Simulated:
    """Live through one seed."""
    with (
        broken(breaking),
        small_store(
            segment=8,
            batch=3,
            cached=2,
            checkpoint_pages=12,
            thread=VirtualThread,
        ),
        tempfile.TemporaryDirectory(dir=FASTEST_FOLDER) as root,
    ):
        return _World(seed, Path(root)).run()


class _World:
    def __init__(self, seed: int, root: Path) -> None:
        self.random = Random(seed)
        self.root = root
        self.clock = LeapingClock(self.random)
        self.record = Record(self.clock)
        self.requests = Requests(self.random, self.clock, users=4)
        self.traces: list[object] = []
        self.crashes = self.failures = self.helped = 0
        self.cannot_open: list[str] = []
        self.findings: list[str] = []

    def run(self) -> Simulated:
        folder = self._folder(0)
        lives = self.random.randint(1, 4)
        for life in range(1, lives + 1):
            disk = Disk()
            self._live(folder, disk, faults=True)
            self.traces.append(disk.trace)
            following = self._folder(life)
            disk.crash(self.random, following)
            self.crashes += 1
            folder = following
        disk = Disk()
        try:
            final = self._live(folder, disk, faults=False)
        except StoreConfigurationError as error:
            final = {}
            self.cannot_open = [f"the ledger does not open any more: {error}"]
        self.traces.append(disk.trace)
        told = [(one.began, one.ended, one.request, one.answer) for one in self.record.attempts]
        digest = blake2b(repr((self.traces, told, final)).encode(), digest_size=8)
        problems = self.cannot_open or [*judge(self.record, final), *self.findings]
        return Simulated(
            problems,
            digest.hexdigest(),
            self.record.acknowledged,
            self.crashes,
            self.failures,
            self.helped,
        )

    def _folder(self, number: int) -> Path:
        folder = self.root / f"life-{number}"
        folder.mkdir()
        return folder

    def _live(self, folder: Path, disk: Disk, *, faults: bool) -> dict[str, list[Line]]:
        self._operate(folder)
        disk.adopt(folder)
        layer = DiskLayer(f"simulated-{id(disk)}", disk)
        loop = VirtualLoop(self.random)
        power = _Power(self, disk) if faults else None
        try:
            with own_syncs_reach(disk), patch.object(sweeper, "random", self.random):
                return loop.run_until_complete(self._life(folder, layer, power))
        finally:
            loop.close()
            layer.unregister()

    def _operate(self, folder: Path) -> None:
        """Do as a start says that finds an empty ledger and a log without a frame: move that away.

        Power losses during the first start and during the next one can leave these.
        """
        ledger, log = folder / "ledger.sqlite", folder / "ledger.sqlite-wal"
        is_empty = ledger.exists() and not ledger.stat().st_size
        if is_empty and log.exists() and 0 < log.stat().st_size <= WAL_HEADER_SIZE:
            log.unlink()
            self.helped += 1

    async def _life(
        self, folder: Path, layer: DiskLayer, power: "_Power | None"
    ) -> dict[str, list[Line]]:
        store = None
        while store is None:
            calls = power.disk.calls if power else 0
            try:
                store = await SqliteStore.open(folder / "ledger.sqlite", vfs=layer.vfs_name)
            except (StoreConfigurationError, StoreUnavailableError):
                if power is None:
                    raise
                if power.lost.is_set() or power.disk.calls == calls:
                    # What refuses without looking at the disk refuses for good.
                    return {}
        engine = Engine(store, lambda: CATALOGUE, max_queued=6, clock_us=self.clock.now_us)
        try:
            if power is None:
                await settle(engine, store, self.record)
                self.findings = [str(finding) async for finding in verify(store)]
                return await histories(store)
            clients = [
                asyncio.ensure_future(
                    client(engine, store, self.record, self.requests, random=self.random, count=8)
                )
                for _ in range(self.random.randint(1, 6))
            ]
            ending = asyncio.ensure_future(power.lost.wait())
            with sweeping(store, engine, self.clock):
                await asyncio.wait(
                    [ending, asyncio.ensure_future(_all(clients))], return_when="FIRST_COMPLETED"
                )
            power.off()
            return {}
        finally:
            await _abandon()
            with suppress(StoreUnavailableError, asyncio.CancelledError):
                await store.close()


class _Power:
    """Decides for one life when an I/O call fails, and when the power goes."""

    def __init__(self, world: _World, disk: Disk) -> None:
        self.world = world
        self.lost = asyncio.Event()
        random = world.random
        self.last_call = random.randrange(400) if random.random() < 0.8 else 10**9
        self.rate = random.choice((0.0, 0.0, 0.002, 0.02))
        # Syncs are few among the calls, and where it hurts most.
        self.sync_rate = random.choice((0.0, 0.0, 0.05, 0.2))
        self.burst = 0
        self.disk = disk
        disk.fail = self.fails

    def off(self) -> None:
        self.last_call = -1

    def fails(self, call: str, name: str) -> Exception | None:
        if self.disk.calls > self.last_call:
            self.lost.set()
            return apsw.IOError("The power is off.")
        rate = self.sync_rate if call == "sync" else self.rate
        if self.burst == 0 and self.world.random.random() < rate:
            self.burst = self.world.random.choice((1, 1, 1, 20))
        if self.burst == 0:
            return None
        self.burst -= 1
        self.world.failures += 1
        return self.world.random.choice(ERRORS)("The disk fails.")


async def _all(clients: list["asyncio.Task[None]"]) -> None:
    await asyncio.gather(*clients)


async def _abandon() -> None:
    """End every task but this one: their world is gone."""
    others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=_number)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _number(task: "asyncio.Task[object]") -> int:
    """In the order in which they were made, which is the same in every run."""
    return int(task.get_name().rpartition("-")[2])


def check(size: int, advance: Advance = silent, *, breaking: str = "", first: int = 0) -> Report:
    """Simulate `size` seeds, every hundredth twice.

    Stops at the first problem of a broken promise: the control only has to be found.
    """
    report = Report()
    acknowledged = crashes = failures = helped = repeated = seeds = 0
    for seed in range(first, first + size):
        seeds += 1
        result = simulate(seed, breaking)
        report.problems += [f"seed {seed}: {problem}" for problem in result.problems]
        acknowledged += result.acknowledged
        crashes += result.crashes
        failures += result.failures
        helped += result.helped
        if breaking and report.problems:
            break
        if seed % 100 == first % 100 and not breaking:
            repeated += 1
            same = simulate(seed).trace == result.trace
            report.require(same, f"seed {seed} ran differently the second time")
        advance(1)
    report.note("seeds", seeds, "10,000")
    report.note("run twice with the same trace", repeated)
    report.note("power losses", crashes)
    report.note("I/O calls that failed", failures)
    report.note("starts before which an operator had to move a log away", helped)
    report.note("acknowledged writes", acknowledged)
    report.note("violations", len(report.problems), "0")
    return report
