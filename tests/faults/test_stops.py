"""Clean stops under load, a few times."""

from faults.stops import check


def test_a_clean_stop_leaves_one_file_that_holds_everything() -> None:
    assert not check(6).problems


def test_a_log_that_is_left_is_found() -> None:
    assert any("it left" in one for one in check(2, breaking="log-left").problems)
