"""The history check, one short run."""

import pytest

from faults.history import check


def test_what_clients_saw_is_a_history_that_can_be() -> None:
    """Through a SIGKILL, deadlines and calls given up."""
    assert not check(1, operations=500, kills=1).problems


@pytest.mark.parametrize("name", ["key-after-balance", "keys-lost-on-restart"])
def test_a_seeded_bug_is_found(name: str) -> None:
    """All of them are planted by `make faults`, and in test_simulation.py."""
    assert check(3, breaking=name, operations=500, kills=1).problems
