"""The threads that run Python are kept on one processor, where other programs disturb them least."""

from collections.abc import Collection, Mapping

import pytest

from entitlements_server.tuning.processor import Placement


class Machine:
    """Three processors, as busy as a test says. See processor.Machine."""

    def __init__(self, current: int = 0) -> None:
        self._current = current
        self._busy = dict.fromkeys((0, 1, 2), 0.0)
        self._own = 0.0
        self.placed: list[set[int]] = []

    def allowed(self) -> Collection[int]:
        return self._busy.keys()

    def current(self) -> int:
        return self._current

    def busy_s(self) -> Mapping[int, float]:
        return dict(self._busy)

    def own_s(self) -> float:
        return self._own

    def place(self, processors: Collection[int]) -> None:
        self.placed.append(set(processors))

    def run(self, busy: Mapping[int, float], own: float = 0) -> None:
        for processor, seconds in busy.items():
            self._busy[processor] += seconds
        self._own += own


def look(
    machine: Machine, busy: Mapping[int, float], own: float = 0, chance: float = 0
) -> set[int]:
    """Return where the threads are after ten seconds in which the processors were busy for so long."""
    placement = Placement(machine, chance=lambda: chance)
    machine.run(busy, own)
    placement.look(10)
    return machine.placed[-1]


def test_threads_begin_on_the_processor_that_the_system_chose() -> None:
    machine = Machine(current=2)
    Placement(machine)
    assert machine.placed == [{2}]


def test_each_worker_begins_on_another_processor() -> None:
    begun = []
    for worker in range(4):
        machine = Machine()
        Placement(machine, worker)
        begun += machine.placed
    assert begun == [{0}, {1}, {2}, {0}]


def test_threads_move_from_a_processor_that_others_use_to_the_least_busy() -> None:
    assert look(Machine(), {0: 9, 1: 3, 2: 2}) == {2}


def test_what_they_run_themselves_does_not_make_them_move() -> None:
    assert look(Machine(), {0: 9, 1: 1, 2: 1}, own=8.5) == {0}


def test_they_stay_where_another_processor_is_only_a_little_less_busy() -> None:
    assert look(Machine(), {0: 4, 1: 2, 2: 2}) == {0}


def test_of_two_servers_that_disturb_each_other_one_may_stay() -> None:
    assert look(Machine(), {0: 9, 1: 0, 2: 0}, chance=0.9) == {0}


def test_only_the_time_since_the_last_look_counts() -> None:
    machine = Machine()
    placement = Placement(machine, chance=lambda: 0)
    machine.run({0: 9})
    placement.look(10)
    machine.run({1: 9, 2: 4})
    placement.look(10)
    assert machine.placed == [{0}, {1}, {0}]


@pytest.mark.parametrize("interval_s", [0.1, 1000])
def test_shares_are_of_the_time_that_has_passed(interval_s: float) -> None:
    machine = Machine()
    placement = Placement(machine, chance=lambda: 0)
    machine.run({0: interval_s / 2})
    placement.look(interval_s)
    assert machine.placed[-1] == {1}


def test_at_the_end_threads_may_use_every_processor_again() -> None:
    machine = Machine()
    Placement(machine).end()
    assert machine.placed[-1] == {0, 1, 2}
