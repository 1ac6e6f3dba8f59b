"""Power losses under load, a few."""

from faults.power import check


def test_nothing_acknowledged_is_lost_with_the_power() -> None:
    assert not check(40).problems


def test_without_a_sync_before_each_reply_a_power_loss_takes_acknowledged_writes() -> None:
    """The control: `synchronous=NORMAL`, which survives a kill and not this."""
    assert any("lost" in problem for problem in check(200, breaking="synchronous-normal").problems)


def test_an_expiry_that_only_memory_has_is_found() -> None:
    """What was recorded in front of a write is as durable as the write."""
    assert check(200, breaking="expiry-lost").problems


def test_a_reply_before_the_commit_is_found() -> None:
    assert check(200, breaking="reply-before-commit").problems
