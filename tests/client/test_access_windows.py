"""Pay once per event: both clients, the gate around work, and the clock of the service."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from entitlements import (
    AccessEndedError,
    ChargeRefundedError,
    ConsumeRequest,
    IdempotencyKeyReusedError,
    Transaction,
    UnexpectedServiceError,
)
from entitlements._purchase import PurchaseFlow
from entitlements.testing import LocalService
from support.asking import Asking

FULL = "full_distribution"  # 2 tokens
WINDOW = timedelta(hours=48)


@pytest.fixture
def local() -> Iterator[LocalService]:
    with LocalService(balances={"ada": 9}, access={FULL: WINDOW}) as service:
        yield service


@pytest.fixture(params=["blocking", "asyncio", "batching"])
async def ask(request: pytest.FixtureRequest, local: LocalService) -> AsyncIterator[Asking]:
    if request.param == "blocking":
        yield Asking(local.client)
    else:
        async with local.async_client(batching=request.param == "batching") as client:
            yield Asking(client)


def fail(_: Transaction) -> None:
    raise ArithmeticError("it did not converge")


async def test_an_event_is_paid_for_once(ask: Asking, local: LocalService) -> None:
    """Under any key, or none, until its window ends. Another event is another charge."""
    paid = await ask("consume", "ada", FULL, event_id="final")
    assert (paid.covered, paid.access_until) == (False, paid.create_time + WINDOW)
    for key in (None, "k", "k"):
        again = await ask("consume", "ada", FULL, event_id="final", idempotency_key=key)
        assert again == paid
        assert (again.covered, again.replayed) == (True, False)
    await ask("consume", "ada", FULL, event_id="semifinal")
    assert local.balance("ada") == 5
    local.clock.advance(WINDOW)
    new = await ask("consume", "ada", FULL, event_id="final")
    assert (new.covered, local.balance("ada")) == (False, 3)


async def test_access_to_an_event_that_was_paid_for_costs_nothing(
    ask: Asking, local: LocalService
) -> None:
    """It is said only where the event is named."""
    paid = await ask("consume", "ada", FULL, event_id="final")
    await ask("set_balance", "ada", 0)
    access = await ask("check_access", "ada", FULL, event_id="final")
    assert (access.allowed, access.required, access.access_until) == (True, 0, paid.access_until)
    assert await ask("check_feature_access", "ada", FULL, event_id="final")
    assert not await ask("check_feature_access", "ada", FULL)
    several = await ask("batch_check_access", "ada", (FULL, "scenario_extremes"), event_id="final")
    assert [each.allowed for each in several] == [True, False]
    features = {each.feature_id: each.access for each in await ask("list_features")}
    assert (features[FULL], features["scenario_extremes"]) == (WINDOW, None)
    local.clock.advance(WINDOW)
    assert not await ask("check_feature_access", "ada", FULL, event_id="final")


async def test_the_key_of_a_window_that_has_ended_opens_nothing(
    ask: Asking, local: LocalService
) -> None:
    """Ninety days later it is an error, in each way to ask. A new key pays again."""
    asked = {"event_id": "final", "idempotency_key": "k"}
    paid = await ask("consume", "ada", FULL, **asked)
    local.clock.advance(timedelta(days=90))
    with pytest.raises(AccessEndedError) as ended:
        await ask("require_tokens", user_id="ada", feature=FULL, **asked)
    assert ended.value.access_until == paid.access_until
    assert ended.value.transaction_id == paid.transaction_id
    assert ended.value.idempotency_key == "k"
    with pytest.raises(AccessEndedError):
        await ask.gated(lambda _: pytest.fail("granted"), user_id="ada", feature=FULL, **asked)
    with pytest.raises(AccessEndedError):
        await ask("consume", "ada", FULL, **asked)
    other, same = await ask(
        "batch_consume",
        [
            ConsumeRequest("ada", FULL, "semifinal", "k-2"),
            ConsumeRequest("ada", FULL, "final", "k"),
        ],
    )
    assert isinstance(other, Transaction)
    assert isinstance(same, AccessEndedError)
    assert local.balance("ada") == 5
    assert [each.event_id for each in await ask.history("ada")][:2] == ["semifinal", "final"]
    assert not (await ask("require_tokens", user_id="ada", feature=FULL, event_id="final")).covered


async def test_the_key_of_an_open_window_opens_it(ask: Asking, local: LocalService) -> None:
    """By the clock of the service, also a moment before its end; and nothing more is recorded."""
    asked = {"event_id": "final", "idempotency_key": "k"}
    paid = await ask("require_tokens", user_id="ada", feature=FULL, **asked)
    local.clock.advance(WINDOW - timedelta(minutes=5))
    again = await ask("require_tokens", user_id="ada", feature=FULL, **asked)
    assert (again.transaction_id, again.replayed) == (paid.transaction_id, True)
    (batched,) = await ask("batch_consume", [ConsumeRequest("ada", FULL, "final", "k")])
    assert batched.replayed
    assert len(await ask.history("ada")) == 2


async def test_an_old_key_opens_what_a_newer_charge_covers(
    ask: Asking, local: LocalService
) -> None:
    asked = {"event_id": "final", "idempotency_key": "k"}
    await ask("consume", "ada", FULL, **asked)
    local.clock.advance(WINDOW)
    newer = await ask("consume", "ada", FULL, event_id="final")
    again = await ask("require_tokens", user_id="ada", feature=FULL, **asked)
    assert (again.transaction_id, again.covered) == (newer.transaction_id, True)


async def test_work_that_fails_refunds_the_charge_and_ends_its_window(
    ask: Asking, local: LocalService
) -> None:
    asked = {"event_id": "final", "idempotency_key": "k"}
    with pytest.raises(ArithmeticError):
        await ask.gated(fail, user_id="ada", feature=FULL, **asked)
    assert local.balance("ada") == 9
    with pytest.raises(ChargeRefundedError):
        await ask("require_tokens", user_id="ada", feature=FULL, **asked)
    assert not (await ask("require_tokens", user_id="ada", feature=FULL, event_id="final")).covered


async def test_covered_work_that_fails_refunds_nothing(ask: Asking, local: LocalService) -> None:
    """The charge paid for work that was delivered."""
    await ask("require_tokens", user_id="ada", feature=FULL, event_id="final")
    with pytest.raises(ArithmeticError):
        await ask.gated(fail, user_id="ada", feature=FULL, event_id="final")
    assert local.balance("ada") == 7
    assert (await ask("consume", "ada", FULL, event_id="final")).covered


async def test_what_was_refunded_is_in_the_answer(ask: Asking) -> None:
    """Of a replay and of a covered request."""
    asked = {"event_id": "final", "idempotency_key": "k"}
    paid = await ask("consume", "ada", FULL, **asked)
    await ask("refund", "ada", paid.transaction_id, 1)
    assert (await ask("consume", "ada", FULL, **asked)).refunded == 1
    assert (await ask("consume", "ada", FULL, event_id="final")).refunded == 1
    await ask("refund", "ada", paid.transaction_id)
    again = await ask("consume", "ada", FULL, **asked)
    assert (again.replayed, again.refunded) == (True, 2)


async def test_a_key_is_for_one_event_also_in_a_window(ask: Asking) -> None:
    await ask("consume", "ada", FULL, event_id="semifinal", idempotency_key="k")
    await ask("consume", "ada", FULL, event_id="final")
    with pytest.raises(IdempotencyKeyReusedError):
        await ask("consume", "ada", FULL, event_id="final", idempotency_key="k")


def test_a_service_that_does_not_say_what_was_refunded_opens_nothing(local: LocalService) -> None:
    """One from before: its charges have no quantity."""
    paid = local.client.consume("ada", FULL, idempotency_key="k")
    flow = PurchaseFlow.of(ConsumeRequest("ada", FULL, idempotency_key="k")).pay()
    next(flow)
    values = {name: getattr(paid, name) for name in Transaction.__slots__}
    with pytest.raises(UnexpectedServiceError, match="older"):
        flow.send(Transaction(**values | {"quantity": 0, "replayed": True}))
