"""Charges that are asked for at the same time travel together, and are answered each on its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from entitlements import (
    AccessDeniedError,
    AsyncEntitlementClient,
    ServiceUnavailableError,
    Transaction,
    UnexpectedServiceError,
    UnknownFeatureError,
)
from entitlements._batching import MAX_BATCH, MAX_UNDER_WAY, MAX_WAITING
from entitlements.v1 import entitlement_service_pb2 as rpc
from support.server_process import ServerProcess

FULL = "full_distribution"


@pytest.fixture
async def client(service: ServerProcess) -> AsyncIterator[AsyncEntitlementClient]:
    async with AsyncEntitlementClient(service.address, batching=True) as client:
        yield client


class Batches:
    """A service that answers batches when the test says so, and keeps what it was sent."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go_on = asyncio.Event()
        self.fail = False
        # How many answers a batch lacks.
        self.missing = 0

    async def answer(self, request: rpc.BatchConsumeRequest, context: Any) -> Any:
        self.sizes.append(len(request.requests))
        await self.go_on.wait()
        if self.fail:
            await context.abort(grpc.StatusCode.INTERNAL, "")
        results = [
            rpc.BatchConsumeResult(response=rpc.ConsumeResponse())
            for _ in request.requests[self.missing :]
        ]
        return rpc.BatchConsumeResponse(results=results)


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[AsyncEntitlementClient, Batches]]:
    batches = Batches()
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(
        batches.answer,
        request_deserializer=rpc.BatchConsumeRequest.FromString,
        response_serializer=rpc.BatchConsumeResponse.SerializeToString,
    )
    service = "entitlements.v1.EntitlementService"
    handler = grpc.method_handlers_generic_handler(service, {"BatchConsume": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # A minute, and not the default: a busy machine may take long to answer all of them.
    async with AsyncEntitlementClient(f"127.0.0.1:{port}", batching=True, deadline_s=60) as client:
        yield client, batches
    await server.stop(None)


async def _until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It does not come true.")


async def test_each_of_many_charges_at_once_gets_its_own_transaction(
    client: AsyncEntitlementClient, user: str
) -> None:
    """500 charges of 2 tokens on 900: 450 succeed, 50 are denied, nobody gets another's answer."""
    await client.top_up(user, 900)
    done = await asyncio.gather(
        *(client.consume(user, FULL, idempotency_key=f"k-{n}") for n in range(500)),
        return_exceptions=True,
    )
    paid = {n: one for n, one in enumerate(done) if isinstance(one, Transaction)}
    denied = [one for one in done if isinstance(one, AccessDeniedError)]
    assert (len(paid), len(denied)) == (450, 50)
    assert all(one.idempotency_key == f"k-{n}" for n, one in paid.items())
    assert len({one.transaction_id for one in paid.values()}) == 450
    assert (await client.get_account(user)).balance == 0


async def test_one_bad_charge_does_not_hurt_those_it_travels_with(
    client: AsyncEntitlementClient, user: str
) -> None:
    await client.top_up(user, 4)
    good, bad, other = await asyncio.gather(
        client.consume(user, FULL),
        client.consume(user, "no_such_feature"),
        client.consume(user, FULL),
        return_exceptions=True,
    )
    assert isinstance(good, Transaction)
    assert isinstance(bad, UnknownFeatureError)
    assert isinstance(other, Transaction)


async def test_the_gate_gathers_too(client: AsyncEntitlementClient, user: str) -> None:
    await client.top_up(user, 20)

    async def enter() -> int:
        async with client.require_tokens(user_id=user, feature=FULL) as paid:
            return paid.cost

    assert await asyncio.gather(*(enter() for _ in range(10))) == [2] * 10
    assert (await client.get_account(user)).balance == 0


async def test_charges_gather_while_calls_are_under_way(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    """The first is sent at once with its contemporaries; what comes later waits and goes together."""
    client, batches = scripted
    first = [asyncio.create_task(client.consume("ada", FULL)) for _ in range(3)]
    await _until(lambda: len(batches.sizes) == 1)
    second = [asyncio.create_task(client.consume("ada", FULL))]
    await _until(lambda: len(batches.sizes) == MAX_UNDER_WAY)
    later = [asyncio.create_task(client.consume("ada", FULL)) for _ in range(MAX_BATCH + 10)]
    await asyncio.sleep(0)
    batches.go_on.set()
    await asyncio.gather(*first, *second, *later)
    assert batches.sizes[:2] == [3, 1]
    assert sum(batches.sizes) == MAX_BATCH + 14
    assert max(batches.sizes) == MAX_BATCH


async def test_who_gives_up_before_the_call_is_not_in_it(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    under_way = []
    for number in range(MAX_UNDER_WAY):
        under_way.append(asyncio.create_task(client.consume("ada", FULL)))
        await _until(lambda wanted=number + 1: len(batches.sizes) == wanted)
    waiting = [asyncio.create_task(client.consume("ada", FULL)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    batches.go_on.set()
    await asyncio.gather(*under_way, waiting[0], waiting[2])
    assert sum(batches.sizes) == MAX_UNDER_WAY + 2
    assert waiting[1].cancelled()


async def test_a_call_that_fails_fails_each_of_its_charges_under_its_own_key(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    batches.fail = True
    batches.go_on.set()
    failed = await asyncio.gather(
        *(client.consume("ada", FULL, idempotency_key=f"k-{n}") for n in range(3)),
        return_exceptions=True,
    )
    keys = [one.idempotency_key for one in failed if isinstance(one, Exception)]  # type: ignore[attr-defined]
    assert keys == ["k-0", "k-1", "k-2"]


async def test_more_than_may_wait_are_rejected_at_once(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    asked = [asyncio.create_task(client.consume("ada", FULL)) for _ in range(MAX_WAITING + 1)]
    with pytest.raises(ServiceUnavailableError, match="waiting to be sent"):
        await asked[-1]
    batches.go_on.set()
    await asyncio.gather(*asked[:-1])
    assert sum(batches.sizes) == MAX_WAITING


async def test_a_charge_waits_no_longer_than_its_deadline_be_it_sent_or_not(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    channel = client._linked().channel
    impatient = AsyncEntitlementClient.from_channel(channel, deadline_s=0.5, batching=True)
    count = MAX_BATCH * (MAX_UNDER_WAY + 1)
    late = await asyncio.gather(
        *(impatient.consume("ada", FULL, idempotency_key=f"k-{n}") for n in range(count)),
        return_exceptions=True,
    )
    keys = [one.idempotency_key for one in late if isinstance(one, ServiceUnavailableError)]
    assert keys == [f"k-{n}" for n in range(count)]
    assert sum(batches.sizes) <= MAX_BATCH * MAX_UNDER_WAY


async def test_a_charge_that_is_too_large_travels_alone(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    """The service here knows no Consume; the others do not suffer for it."""
    client, batches = scripted
    batches.go_on.set()
    large, small = await asyncio.gather(
        client.consume("ada", FULL, event_id="x" * 10_000),
        client.consume("ada", FULL),
        return_exceptions=True,
    )
    assert isinstance(large, UnexpectedServiceError)
    assert isinstance(small, Transaction)
    assert batches.sizes == [1]


async def test_an_answer_with_too_few_results_fails_the_charge_that_has_none(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    batches.missing = 1
    batches.go_on.set()
    told = await asyncio.gather(
        *(client.consume("ada", FULL) for _ in range(3)), return_exceptions=True
    )
    assert isinstance(told[-1], UnexpectedServiceError)


async def test_closing_the_client_ends_charges_under_way_and_those_that_wait(
    scripted: tuple[AsyncEntitlementClient, Batches],
) -> None:
    client, batches = scripted
    under_way = []
    for number in range(MAX_UNDER_WAY):
        under_way.append(asyncio.create_task(client.consume("ada", FULL)))
        await _until(lambda wanted=number + 1: len(batches.sizes) == wanted)
    waiting = [asyncio.create_task(client.consume("ada", FULL)) for _ in range(3)]
    await asyncio.sleep(0)
    await client.close()
    done, pending = await asyncio.wait([*under_way, *waiting], timeout=10)
    assert not pending
    assert all(task.cancelled() or task.exception() for task in done)


async def test_a_closed_client_says_so(service: ServerProcess) -> None:
    client = AsyncEntitlementClient(service.address, batching=True)
    await client.close()
    with pytest.raises(ValueError, match="closed"):
        await client.consume("ada", FULL)
