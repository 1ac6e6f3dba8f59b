"""A client that was built before grants and windows works as before: its messages are those of the baseline."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration

from entitlements_server.api.routes import SERVICE
from support.repository import DOCS
from support.rpc import Api

BASELINE = DOCS.parent / "protos" / "baseline.binpb"

Older = Callable[..., Any]


@pytest.fixture
def older(api: Api) -> Older:
    """Calls a method with the messages that its client knows."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(BASELINE.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    service = pool.FindServiceByName(SERVICE)

    async def call(rpc: str, **fields: Any) -> Any:
        method = service.FindMethodByName(rpc)
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        send: Any = api.channel.unary_unary(
            f"/{SERVICE}/{rpc}", lambda one: one.SerializeToString(), response.FromString
        )
        return await send(request(**fields), timeout=30)

    return call


async def test_it_charges_refunds_and_reads(older: Older) -> None:
    await older("TopUp", user_id="ada", amount=10, idempotency_key="k-1")
    charge = {"user_id": "ada", "feature": "full_distribution", "event_id": "e-1"}
    first = await older("Consume", **charge, idempotency_key="k-2")
    assert (first.transaction.cost, first.transaction.amount) == (2, -2)
    assert (await older("Consume", **charge, idempotency_key="k-2")).replayed
    # Without a window the same event is charged again.
    assert not (await older("Consume", **charge)).replayed
    refund = {"user_id": "ada", "transaction_id": first.transaction.transaction_id}
    assert (await older("Refund", **refund)).transaction.amount == 2
    assert (await older("SetBalance", user_id="ada", balance=3)).transaction.balance_after == 3
    assert (await older("GetAccount", user_id="ada")).balance == 3
    access = (await older("CheckAccess", user_id="ada", feature="full_distribution")).access
    assert (access.allowed, access.available) == (True, 3)


async def test_it_reads_what_it_does_not_know(api: Api, older: Older) -> None:
    await api.TopUp(user_id="ada", amount=5, lifetime=Duration(seconds=60), labels={"a": "b"})
    await api.Consume(user_id="ada", feature="full_distribution", quantity=2)
    page = await older("ListTransactions", user_id="ada")
    assert [one.amount for one in page.transactions] == [-4, 5]
    assert (await older("GetAccount", user_id="ada")).balance == 1


async def test_a_denial_is_the_error_that_it_was(older: Older) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await older("Consume", user_id="ada", feature="full_distribution")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
