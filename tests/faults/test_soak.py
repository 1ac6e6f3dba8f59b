"""A soak far too short to show a small leak; it shows that the measuring works."""

from faults.soak import check


def test_memory_is_measured_and_a_large_leak_is_found() -> None:
    """A first few thousand calls still warm up: the bound of 5% is for `make faults`."""
    assert not check(3000, growth=0.25).problems
    assert check(10_000, growth=0.05, breaking="calls-hoarded").problems
