"""The machine finds each seeded bug. Without a bug it finds nothing: see tests/stores/test_grants_and_windows.py."""

import pytest

from model.bugs import BUGS
from model.machine import walk
from support.kinds import MemoryKind

SEEDS = range(200)
"""Each bug is found with one of these; most with the first few."""

STEPS = 40


pytestmark = pytest.mark.slow


def search(name: str) -> None:
    """Walk with a bug until it shows."""
    for seed in SEEDS:
        walk(MemoryKind(), seed, STEPS, BUGS[name]())


@pytest.mark.parametrize("name", BUGS)
def test_the_machine_finds_a_seeded_bug(name: str) -> None:
    with pytest.raises(AssertionError):
        search(name)


def test_the_same_walks_find_nothing_without_a_bug() -> None:
    for seed in SEEDS[:20]:
        walk(MemoryKind(), seed, STEPS, ())
