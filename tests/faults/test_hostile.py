"""Hostile input, a little of it."""

from faults.hostile import check


def test_hostile_input_neither_ends_the_server_nor_makes_it_talk_or_grow() -> None:
    assert not check(70).problems


def test_an_error_that_is_sent_verbatim_is_found() -> None:
    assert any("sent" in one for one in check(2, breaking="errors-sent-verbatim").problems)


def test_memory_that_grows_with_rejected_calls_is_found() -> None:
    assert any("grew" in one for one in check(70, breaking="rejections-hoarded").problems)
