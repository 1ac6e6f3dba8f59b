"""Redis struck under load, once in each way."""

import pytest

from faults import redis_faults
from faults.redis_faults import FAULTS, check
from support.network import Network


@pytest.mark.parametrize("fault", FAULTS)
def test_what_clients_saw_is_a_history_that_can_be_when_redis_is(fault: str) -> None:
    if fault == "cut off" and not Network.is_allowed():
        pytest.skip("a network that can be cut takes the rights of root")
    assert not check(1, faults=(fault,), operations=400, strikes=1).problems


def test_a_write_made_again_without_a_look_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis hangs for a little longer than the server waits for a reply."""
    monkeypatch.setattr(redis_faults, "AWAY_S", (5.2, 6.2))
    assert check(
        5, breaking="lost-reply-taken-for-failure", faults=("paused",), operations=1000, strikes=2
    ).problems
