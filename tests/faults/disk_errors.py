"""Every I/O call of a workload fails once in turn: ENOSPC, EIO, a failing sync, once or for long.

A pass has a workload of its own and lets each of its calls fail. Then the disk is well again, or the
power goes at some call of the recovery. What was acknowledged has to be there; what failed has to have
been reported as STORE_UNAVAILABLE; and everything unsettled has to be settled by asking again.
"""

import asyncio
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from random import Random

import apsw

from entitlements_server.engine.engine import Engine
from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.sqlite import SqliteStore
from faults.breaks import broken
from faults.catalogue import CATALOGUE
from faults.clocks import LeapingClock
from faults.disk import Disk, DiskLayer
from faults.engine_client import ask, histories, settle
from faults.figures import Advance, Report, silent
from faults.judge import judge
from faults.records import Charged, Line, Record
from faults.requests import Requests
from faults.small import FASTEST_FOLDER, own_syncs_reach, small_store
from faults.virtual import VirtualLoop, VirtualThread

ROUNDS = 12
TOGETHER = 3
"""Each round asks so many requests at once, which makes a group."""


def check(size: int, advance: Advance = silent, *, breaking: str = "") -> Report:
    """Let every call of `size` workloads fail, one workload after the other."""
    report = Report()
    points = crashes = refused = 0
    with broken(breaking), _small():
        for seed in range(size):
            call = 0
            reached = True
            while reached and not (breaking and report.problems):
                call += 1
                case = _Case(seed, call)
                report.problems += [f"pass {seed}, call {call}: {one}" for one in case.problems()]
                reached = case.reached
                points += reached
                crashes += case.crashed
                refused += case.refused
            advance(1)
    report.note("I/O calls that failed in turn", points)
    report.note("of these followed by a power loss during recovery", crashes)
    report.note("requests answered STORE_UNAVAILABLE", refused)
    report.note("violations", len(report.problems), "0")
    return report


def lose_power_after_failed_syncs(calls: range, *, breaking: str = "") -> list[str]:
    """Fail each sync among some calls, and lose power at each call soon after it."""
    found: list[str] = []
    with broken(breaking), _small():
        for call in _syncs(calls):
            for lost_at in range(call + 1, call + 45):
                found += _Case(0, call, lost_at).problems()
                if breaking and found:
                    return found
    return found


def _syncs(calls: range) -> list[int]:
    case = _Case(0, 10**9)
    case.problems()
    return [number for number in calls if case.disk.trace[number - 1][0] == "sync"]


def _small() -> AbstractContextManager[None]:
    return small_store(segment=8, batch=3, cached=2, checkpoint_pages=12, thread=VirtualThread)


class _Case:
    """One workload in which one I/O call fails."""

    def __init__(self, seed: int, call: int, power_lost_at: int = 0) -> None:
        self.seed = seed
        self.call = call
        self.chance = Random(seed * 100_000 + call)
        self.lasting = self.chance.choice((1, 1, 2, 30))
        self.error = self.chance.choice((apsw.FullError, apsw.IOError))
        # Half of the recoveries meet a power loss.
        self.power_lost_at = call + self.chance.randrange(1, 60)
        self.loses_power = self.chance.random() < 0.5
        if power_lost_at:
            self.lasting, self.loses_power, self.power_lost_at = 1, True, power_lost_at
        self.clock = LeapingClock(Random(seed))
        self.record = Record(self.clock)
        self.reached = self.crashed = False
        self.refused = 0

    def problems(self) -> list[str]:
        with tempfile.TemporaryDirectory(dir=FASTEST_FOLDER) as root:
            folder = Path(root) / "before"
            folder.mkdir()
            disk = Disk(fail=self._fails)
            self.disk = disk
            self._live(self._suffer(folder, disk), disk)
            if not self.reached:
                return []
            if self.crashed:
                folder = Path(root) / "after"
                folder.mkdir()
                disk.crash(self.chance, folder)
            # An operator starts the server again, on a disk that is well.
            well = Disk()
            well.adopt(folder)
            try:
                found = self._live(self._settle(folder, well), well)
            except StoreConfigurationError as error:
                return [f"does not open any more: {error}"]
            return judge(self.record, found)

    def _live(self, life: object, disk: Disk) -> dict[str, list[Line]]:
        loop = VirtualLoop(Random(self.seed))
        try:
            with own_syncs_reach(disk):
                return loop.run_until_complete(life)  # type: ignore[arg-type]
        finally:
            loop.close()

    def _fails(self, _call: str, _name: str) -> Exception | None:
        calls = self.disk.calls
        if calls >= self.call:
            self.reached = True
        if self.loses_power and calls >= self.power_lost_at:
            self.crashed = True
        if self.crashed or self.call <= calls < self.call + self.lasting:
            return self.error("The disk fails.")
        return None

    async def _suffer(self, folder: Path, disk: Disk) -> None:
        layer = DiskLayer(f"failing-{id(disk)}", disk)
        store = await self._open(folder, layer)
        if store is not None:
            requests = Requests(Random(self.seed), self.clock, users=3)
            engine = self._engine(store)
            for _ in range(ROUNDS):
                asked = [requests.next() for _ in range(TOGETHER)]
                answers = await asyncio.gather(
                    *(ask(engine, store, self.record, one) for one in asked)
                )
                for answer in answers:
                    self.refused += answer is None
                    if isinstance(answer, Charged):
                        requests.saw(answer.line)
            with suppress(StoreUnavailableError):
                await store.close()
        layer.unregister()

    def _engine(self, store: SqliteStore) -> Engine:
        return Engine(store, lambda: CATALOGUE, clock_us=self.clock.now_us)

    async def _open(self, folder: Path, layer: DiskLayer) -> SqliteStore | None:
        """Start as a service manager would, again and again; a disk that fails is a clear stop."""
        for _ in range(40):
            with suppress(StoreConfigurationError):
                return await SqliteStore.open(folder / "ledger.sqlite", vfs=layer.vfs_name)
        return None

    async def _settle(self, folder: Path, disk: Disk) -> dict[str, list[Line]]:
        layer = DiskLayer(f"well-{id(disk)}", disk)
        store = await SqliteStore.open(folder / "ledger.sqlite", vfs=layer.vfs_name)
        await settle(self._engine(store), store, self.record)
        found = await histories(store)
        await store.close()
        layer.unregister()
        return found
