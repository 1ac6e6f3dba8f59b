"""A server that rejects writes without an idempotency key."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from entitlements import AsyncEntitlementClient
from entitlements.v1 import entitlement_service_pb2 as pb
from support.rpc import Api, fails, serving


@pytest.fixture
async def strict() -> AsyncIterator[Api]:
    async with serving(require_keys=True) as api:
        yield api


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("Consume", {"feature": "headline_pick"}),
        ("TopUp", {"amount": 1}),
        ("SetBalance", {"balance": 1}),
        ("Refund", {"transaction_id": "1-00000000000000000000"}),
    ],
)
async def test_a_write_without_a_key_is_rejected_and_does_nothing(
    strict: Api, rpc: str, fields: dict[str, Any]
) -> None:
    rejected = await fails(getattr(strict, rpc)(user_id="ada", **fields))
    assert (rejected.reason, rejected.metadata) == ("INVALID_FIELD", {"field": "idempotency_key"})
    assert "this server rejects writes without one" in rejected.message
    assert await strict.history("ada") == []


async def test_in_a_batch_only_the_charges_without_a_key_are_rejected(strict: Api) -> None:
    charge = pb.ConsumeRequest(user_id="ada", feature="headline_pick")
    keyed = pb.ConsumeRequest(user_id="ada", feature="headline_pick", idempotency_key="k")
    answer = await strict.BatchConsume(requests=[charge, keyed])
    assert [result.WhichOneof("outcome") for result in answer.results] == ["error", "response"]


async def test_our_client_always_sends_one(strict: Api) -> None:
    client = AsyncEntitlementClient.from_channel(strict.channel)
    await client.set_balance("ada", 1)
    await client.top_up("ada", 5)
    key: dict[str, Any] = {
        "user_id": "ada",
        "feature": "full_distribution",
        "idempotency_key": "k",
    }
    paid = await client.require_tokens(**key)
    assert (await client.require_tokens(**key)).transaction_id == paid.transaction_id
    with pytest.raises(ArithmeticError):
        async with client.require_tokens(user_id="ada", feature="full_distribution"):
            raise ArithmeticError
    assert (await client.get_account("ada")).balance == 4


async def test_by_default_a_key_is_optional() -> None:
    async with serving() as api:
        await api.TopUp(user_id="ada", amount=1)
