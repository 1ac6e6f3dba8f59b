"""Breaks the service on purpose. `run.py` is `make faults`; `test_*.py` are the short forms.

One file for each check. What they share: `records.py` (what was asked and answered), `oracle.py`
(the rules, written a second time), `provenance.py` (what a history must show by itself), `judge.py` (holds
a record against both), `catalogue.py` (with access windows), `clocks.py` (that leap), `disk.py` (a disk that fails), `breaks.py` (switches that break a promise, to see the check fail), `wire.py` (clients
over gRPC), `servers.py` (servers that are killed and started again), `attacks.py` (what strangers do) and
`honest.py` (who is to be served meanwhile).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from faults.figures import Report


@dataclass(frozen=True, slots=True)
class Check:
    """A check: how long it is in full, and in which unit."""

    module: str
    size: int
    unit: str
    function: str = "check"

    def load(self) -> Callable[..., Report]:
        """The function that runs it: see `simulation.check` for what it takes."""
        check: Callable[..., Report] = getattr(
            import_module(f"faults.{self.module}"), self.function
        )
        return check


CHECKS = {
    "simulation": Check("simulation", 10_000, "seeds"),
    "power": Check("power", 1000, "power losses"),
    "disk-errors": Check("disk_errors", 20, "passes over every I/O call"),
    "history": Check("history", 50, "runs of 10,000 operations"),
    "seeded-bugs": Check("history", 19, "bugs", "check_bugs"),
    "kills": Check("kills", 500, "kills"),
    "restarts": Check("restarts", 20, "restarts"),
    "stops": Check("stops", 1000, "clean stops"),
    "migration": Check("migration", 100, "kills"),
    # 100 are to be killed, and some may be done before that.
    "copy": Check("copies", 130, "kills"),
    "redis": Check("redis_faults", 10, "runs with each of four faults"),
    "postgresql": Check("postgresql_faults", 10, "runs of 10 strikes with each of four faults"),
    "workers": Check("worker_faults", 60, "workers killed, one every second"),
    "hostile": Check("hostile", 1000, "messages of each kind to each method"),
    "strangers": Check(
        "strangers", 10, "runs of 1,000 paths that are no UTF-8, and each other attack"
    ),
    "soak": Check("soak", 10_000_000, "calls"),
}
"""Every check by name, in the order in which `make faults` runs them."""
