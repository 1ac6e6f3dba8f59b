"""A soak far too short to show a small leak; it shows that the measuring works."""

from faults.soak import check
from support.programs import tool

CALLS = 10_000
GROWTH = 0.25
"""Caches still fill during so few calls: the bound of 5% is for `make faults`."""

MISSED = 0.1
"""So few calls may be over before those with a deadline have company."""


def test_memory_is_measured_and_a_large_leak_is_found() -> None:
    """The same calls, within the same bound, but for the leak."""
    tool("ghz")
    assert not check(CALLS, growth=GROWTH, missed=MISSED).problems
    leaking = check(CALLS, growth=GROWTH, missed=MISSED, breaking="calls-hoarded")
    assert any("the server grew" in problem for problem in leaking.problems)
