"""Restarts under clients that retry, two."""

from faults.restarts import check


def test_an_application_sees_nothing_of_a_restart() -> None:
    assert not check(2).problems


def test_charges_that_a_restart_loses_are_found() -> None:
    """The control: replies before the commit, and no time to drain."""
    assert check(2, breaking="reply-before-commit").problems
