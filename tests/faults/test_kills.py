"""SIGKILL under load, a few times."""

from faults.kills import check


def test_sigkill_under_load_loses_nothing_and_charges_nothing_twice() -> None:
    assert not check(2).problems


def test_a_reply_before_the_commit_is_found() -> None:
    assert any("lost" in one for one in check(2, breaking="reply-before-commit").problems)
