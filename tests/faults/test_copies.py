"""Copies that are killed, a few."""

from faults.copies import check


def test_a_killed_copy_is_a_beginning_and_is_recognized_as_one() -> None:
    assert not check(4).problems


def test_a_copy_that_is_not_compared_is_found() -> None:
    assert check(10, breaking="copy-without-comparing").problems
