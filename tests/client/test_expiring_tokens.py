"""Tokens that expire, quantity, price guard and labels: both clients, and the clock of the service."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from entitlements import (
    AccessDeniedError,
    ConsumeRequest,
    Draw,
    EntitlementClient,
    InvalidRequestError,
    PriceChangedError,
    TooManyGrantsError,
    TransactionKind,
)
from entitlements.testing import LocalService
from support.asking import Asking

FULL = "full_distribution"  # 2 tokens
DAY = timedelta(days=1)


@pytest.fixture
def local() -> Iterator[LocalService]:
    with LocalService() as service:
        yield service


@pytest.fixture(params=["blocking", "asyncio", "batching"])
async def ask(request: pytest.FixtureRequest, local: LocalService) -> AsyncIterator[Asking]:
    if request.param == "blocking":
        yield Asking(local.client)
    else:
        async with local.async_client(batching=request.param == "batching") as client:
            yield Asking(client)


async def test_tokens_expire_at_a_time_or_after_a_lifetime(
    ask: Asking, local: LocalService
) -> None:
    """The account says what is left, what of it expires, and what does so next."""
    at = datetime(2200, 1, 1, tzinfo=UTC)
    pool = await ask("top_up", "ada", 5)
    late = await ask("top_up", "ada", 4, expire_time=at)
    soon = await ask("top_up", "ada", 3, lifetime=3 * DAY)
    assert (pool.expire_time, pool.lifetime, pool.draws) == (None, None, ())
    assert (late.expire_time, late.lifetime) == (at, None)
    assert (soon.expire_time, soon.lifetime) == (None, 3 * DAY)
    account = await ask("get_account", "ada")
    assert (account.balance, account.available) == (12, 12)
    assert [(grant.grant_id, grant.amount, grant.expire_time) for grant in account.grants] == [
        (soon.transaction_id, 3, soon.create_time + 3 * DAY),
        (late.transaction_id, 4, at),
    ]
    assert account.next_expire_time == soon.create_time + 3 * DAY
    assert account.next_expire_amount == 3
    local.clock.advance(3 * DAY)
    account = await ask("get_account", "ada")
    assert (account.balance, account.available) == (12, 9)
    assert [grant.amount for grant in account.grants] == [4]


async def test_a_charge_takes_what_expires_soonest_and_says_so(
    ask: Asking, local: LocalService
) -> None:
    """What has expired is recorded in front of a later charge."""
    soon = await ask("top_up", "ada", 3, lifetime=DAY)
    await ask("top_up", "ada", 5)
    paid = await ask("consume", "ada", FULL, quantity=2)
    assert (paid.quantity, paid.cost, paid.amount) == (2, 4, -4)
    assert paid.draws == (
        Draw(grant=soon.transaction_id, amount=3, expire_time=soon.create_time + DAY),
        Draw(grant="", amount=1, expire_time=None),
    )
    await ask("top_up", "ada", 7, lifetime=DAY)
    local.clock.advance(2 * DAY)
    await ask("consume", "ada", FULL)
    kinds = [each.kind for each in await ask.history("ada")]
    assert kinds[:2] == [TransactionKind.CONSUME, TransactionKind.EXPIRE]
    (expired,) = await ask.history("ada", kind=TransactionKind.EXPIRE)
    assert (expired.amount, expired.draws[0].amount) == (-7, 7)


async def test_tokens_that_have_expired_pay_for_nothing(ask: Asking, local: LocalService) -> None:
    """The denial says what could be spent, and the history too."""
    await ask("top_up", "ada", 2, lifetime=DAY)
    await ask("top_up", "ada", 1)
    local.clock.advance(DAY)
    with pytest.raises(AccessDeniedError) as denied:
        await ask("consume", "ada", FULL)
    assert (denied.value.required, denied.value.available) == (2, 1)
    recorded = await ask("get_transaction", "ada", denied.value.transaction_id)
    assert (recorded.balance_before, recorded.available) == (3, 1)


@pytest.mark.parametrize("expiry", ["expire_time", "lifetime"])
async def test_a_retry_of_a_top_up_is_one_top_up(
    ask: Asking, local: LocalService, expiry: str
) -> None:
    """Also when its tokens have expired since."""
    value = {"expire_time": local.clock.now() + DAY, "lifetime": DAY}[expiry]
    again: dict[str, Any] = {expiry: value, "idempotency_key": "k"}
    first = await ask("top_up", "ada", 2, **again)
    local.clock.advance(2 * DAY)
    second = await ask("top_up", "ada", 2, **again)
    assert second == first
    assert (first.replayed, second.replayed) == (False, True)


async def test_labels_are_stored_and_those_of_the_first_request_stay(ask: Asking) -> None:
    first = await ask("top_up", "ada", 5, labels={"plan": "pro"}, idempotency_key="k")
    again = await ask("top_up", "ada", 5, labels={"plan": "free"}, idempotency_key="k")
    assert first.labels == again.labels == {"plan": "pro"}
    paid = await ask("consume", "ada", FULL, labels={"page": "final"})
    back = await ask("refund", "ada", paid.transaction_id, labels={"ticket": "7"})
    adjusted = await ask("set_balance", "ada", 1, labels={"by": "ops"})
    labels = [each.labels for each in await ask.history("ada")]
    assert labels == [adjusted.labels, back.labels, paid.labels, first.labels]
    assert labels[:3] == [{"by": "ops"}, {"ticket": "7"}, {"page": "final"}]
    with pytest.raises(InvalidRequestError):
        await ask("consume", "ada", FULL, labels={"Not A Key": ""})


async def test_a_price_above_the_highest_accepted_charges_nothing(ask: Asking) -> None:
    """`max_cost` is the total. 0 is a limit like any other."""
    await ask("top_up", "ada", 9)
    for limit in (0, 3):
        with pytest.raises(PriceChangedError) as changed:
            await ask("consume", "ada", FULL, quantity=2, max_cost=limit)
        error = changed.value
        assert (error.feature, error.max_cost, error.cost) == (FULL, limit, 4)
        with pytest.raises(PriceChangedError):
            await ask("require_tokens", user_id="ada", feature=FULL, quantity=2, max_cost=limit)
    assert (await ask("consume", "ada", FULL, quantity=2, max_cost=4)).cost == 4
    assert len(await ask.history("ada")) == 2


async def test_a_batch_has_quantities_limits_and_labels(ask: Asking) -> None:
    await ask("top_up", "ada", 9)
    paid, guarded = await ask(
        "batch_consume",
        [
            ConsumeRequest("ada", FULL, quantity=3, labels={"row": "1"}),
            ConsumeRequest("ada", FULL, max_cost=1),
        ],
    )
    assert (paid.cost, paid.quantity, paid.labels) == (6, 3, {"row": "1"})
    assert isinstance(guarded, PriceChangedError)


async def test_a_grant_too_many_is_an_error_of_its_own(ask: Asking) -> None:
    for days in range(1, 65):
        await ask("top_up", "ada", 1, lifetime=days * DAY)
    with pytest.raises(TooManyGrantsError) as many:
        await ask("top_up", "ada", 1, lifetime=99 * DAY)
    assert many.value.limit == 64


async def test_too_many_denials_of_a_user_are_not_recorded(
    ask: Asking, local: LocalService
) -> None:
    """Sixty are, in a minute. The error of another one has no transaction."""
    local.clock.advance(timedelta(seconds=60 - local.clock.now().second))
    recorded = []
    for _ in range(62):
        with pytest.raises(AccessDeniedError) as denied:
            await ask("consume", "ada", FULL)
        recorded.append(bool(denied.value.transaction_id))
    assert recorded == [True] * 60 + [False] * 2
    assert (await ask("get_account", "ada")).transaction_count == 60


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"expire_time": datetime(2200, 1, 1)}, "expire_time"),  # noqa: DTZ001 - that is the point
        ({"lifetime": DAY, "expire_time": datetime(2200, 1, 1, tzinfo=UTC)}, "lifetime"),
        ({"lifetime": timedelta.max}, "lifetime"),
        ({"lifetime": timedelta(milliseconds=1)}, "lifetime"),
        ({"expire_time": datetime(1990, 1, 1, tzinfo=UTC)}, "expire_time"),
        ({"expire_time": datetime(9999, 1, 1, tzinfo=UTC)}, "expire_time"),
    ],
)
def test_an_expiry_that_is_not_valid_is_named(
    local: LocalService, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as invalid:
        local.client.top_up("ada", 1, **arguments)
    assert invalid.value.field == field


def test_values_of_another_type_are_named(local: LocalService) -> None:
    client: Any = local.client
    with pytest.raises(TypeError, match="expire_time must be datetime, not str"):
        client.top_up("ada", 1, expire_time="tomorrow")
    with pytest.raises(TypeError, match="lifetime must be timedelta, not int"):
        client.top_up("ada", 1, lifetime=60)
    with pytest.raises(TypeError, match="labels must be a mapping of str to str, not int"):
        client.consume("ada", FULL, labels=7)
    with pytest.raises(TypeError, match="quantity must be int, not str"):
        client.consume("ada", FULL, quantity="2")


def test_no_uses_are_not_one_use(local: LocalService) -> None:
    """On the wire 0 would be the default."""
    with pytest.raises(InvalidRequestError, match="quantity") as invalid:
        local.client.consume("ada", FULL, quantity=0)
    assert invalid.value.field == "quantity"


def test_values_can_be_hashed_and_compared(local: LocalService) -> None:
    """Whatever their labels are."""
    client: EntitlementClient = local.client
    first = client.top_up("ada", 1, labels={"a": "b"}, lifetime=DAY)
    assert {first, client.get_transaction("ada", first.transaction_id)} == {first}
    assert len({ConsumeRequest("ada", FULL, labels={"a": "b"}), ConsumeRequest("ada", FULL)}) == 2
