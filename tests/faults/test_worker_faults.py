"""Workers that are killed under load, three of them."""

from faults.worker_faults import check


def test_a_worker_that_is_killed_loses_and_doubles_nothing() -> None:
    """That the application does not even see it is for `make faults`, on a machine with nothing else to do."""
    assert not check(3, strict=False).problems


def test_charges_that_are_made_again_without_their_key_are_found() -> None:
    """The control: keys bind nothing, so what was in flight and is sent again is charged twice."""
    assert check(20, breaking="keys-bind-nothing", strict=False).problems
