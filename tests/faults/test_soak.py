"""A soak far too short to show a small leak; it shows that the measuring works."""

from faults.soak import check

CALLS = 10_000
GROWTH = 0.15
"""Caches still fill during so few calls: the bound of 5% is for `make faults`."""


def test_memory_is_measured_and_a_large_leak_is_found() -> None:
    """The same calls, within the same bound, but for the leak."""
    assert not check(CALLS, growth=GROWTH).problems
    assert check(CALLS, growth=GROWTH, breaking="calls-hoarded").problems
