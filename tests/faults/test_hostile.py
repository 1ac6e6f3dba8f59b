"""Hostile input, a little of it."""

from faults.hostile import check


def test_hostile_input_neither_ends_the_server_nor_makes_it_talk_or_grow() -> None:
    assert not check(30).problems


def test_an_error_that_is_told_verbatim_is_found() -> None:
    assert any("told" in one for one in check(2, breaking="errors-told-verbatim").problems)
