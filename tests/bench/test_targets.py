"""Ratios are taken within a round, and a bound is held against their median."""

from measure import Result, Turn
from sides import OFF, SHIPS
from targets import targets
from workloads import CONSUME, GRPC_AIO


def _turn(rate: float, failed: int = 0) -> Turn:
    return Turn(rate, p50_ms=1, p99_ms=2, p999_ms=3, cpu_us=100, calls=1000, failed=failed)


def _result(ours: list[Turn], theirs: list[Turn]) -> Result:
    turns = {SHIPS: ours, OFF: ours, GRPC_AIO: theirs}
    return Result(CONSUME, 0, turns, dict.fromkeys(turns, "ghz"), dict.fromkeys(turns, 1.0), 0.0, 0)


def _row(result: Result) -> tuple[str, ...]:
    return targets({"starts": {}}, [result])[0].cells()


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """The median rates are alike; in two rounds of three we had half of theirs."""
    result = _result([_turn(100), _turn(200), _turn(300)], [_turn(200), _turn(400), _turn(100)])
    assert result.ratio(SHIPS, GRPC_AIO) == 0.5
    assert result.ratio(SHIPS, "one that is missing") is None


def test_a_target_is_reached_at_its_bound_and_not_below() -> None:
    assert _row(_result([_turn(160)] * 3, [_turn(100)] * 3))[4] == "yes"
    assert _row(_result([_turn(159)] * 3, [_turn(100)] * 3))[4] == "no"


def test_failed_calls_are_said_beside_the_target() -> None:
    """Those of all sides, for all are part of the ratio or stand beside it."""
    row = _row(_result([_turn(160, failed=7)], [_turn(100)]))
    assert "14 CALLS FAILED" in row[5]
