"""Restarts under clients that retry, two."""

from faults.restarts import check


def test_a_restart_charges_nothing_twice_and_loses_nothing() -> None:
    """That the application does not even see it is for `make faults`, on a machine with nothing else
    to do."""
    assert not check(2, strict=False).problems


def test_charges_that_a_restart_loses_are_found() -> None:
    """The control: replies before the commit, and no time to drain."""
    assert check(2, breaking="reply-before-commit", strict=False).problems
