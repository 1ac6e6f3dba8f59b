"""What callers learn when something goes wrong that is not their fault."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from entitlements_server import app
from entitlements_server.api.routes import SERVICE
from entitlements_server.stores.interface import StoreUnavailableError
from support.rpc import Api, fails, serving
from support.stores import FailingStore, GatedStore

SECRET = "postgres://admin:hunter2@db"  # planted


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    store = FailingStore()

    async def open_store(_: str) -> FailingStore:
        return store

    monkeypatch.setattr(app, "open_store", open_store)
    return store


@pytest.fixture
async def api(failing: FailingStore) -> AsyncIterator[Api]:
    async with serving() as api:
        yield api


async def test_an_unforeseen_error_is_told_as_a_reference_and_logged_whole(
    api: Api, failing: FailingStore
) -> None:
    failing.error = RuntimeError(SECRET)
    with capture_logs() as lines:
        failure = await fails(api.TopUp(user_id="ada", amount=1))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.reason == "INTERNAL"
    reference = failure.metadata["reference"]
    assert reference in failure.message
    assert SECRET not in str(failure)
    (line,) = [line for line in lines if line.get("reference") == reference]
    assert line["exc_info"] is failing.error


async def test_a_failing_disk_is_store_unavailable_and_says_how_to_settle_it(
    api: Api, failing: FailingStore
) -> None:
    failing.error = StoreUnavailableError(SECRET)
    failure = await fails(api.TopUp(user_id="ada", amount=1))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "STORE_UNAVAILABLE"
    assert "same idempotency key" in failure.message
    assert SECRET not in str(failure)


async def test_health_is_not_serving_while_the_store_cannot_be_reached(
    api: Api, failing: FailingStore
) -> None:
    health = health_pb2_grpc.HealthStub(api.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )

    async def until(status: int) -> None:
        async for response in watch:
            if response.status == status:
                return

    await until(serving)
    with capture_logs() as lines:
        failing.error = StoreUnavailableError("The disk is on fire.")
        await until(not_serving)
    (line,) = [line for line in lines if "NOT_SERVING" in line["event"]]
    assert "The disk is on fire." in line["cause"]
    overall = await health.Check(health_pb2.HealthCheckRequest())
    assert overall.status == not_serving
    failing.error = None
    await until(serving)
    watch.cancel()


async def test_a_full_queue_is_overloaded_and_tells_when_to_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = GatedStore()

    async def open_store(_: str) -> GatedStore:
        return store

    monkeypatch.setattr(app, "open_store", open_store)
    async with serving(max_queued=1) as api:
        begun = asyncio.ensure_future(api.TopUp(user_id="ada", amount=1))
        await store.begun.wait()
        calls = [asyncio.ensure_future(fails(api.TopUp(user_id="ada", amount=1))) for _ in range(3)]
        # One of them waits in the queue; the other two find it full.
        refused = asyncio.as_completed(calls)
        failure = await next(refused)
        assert (await next(refused)).reason == failure.reason
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.reason == "OVERLOADED"
        (retry,) = failure.details
        assert isinstance(retry, error_details_pb2.RetryInfo)
        assert retry.retry_delay.ToMilliseconds() == 500
        assert failure.trailers["grpc-retry-pushback-ms"] == "500"
        store.gate.set()
        await asyncio.wait([begun, *calls])
        with pytest.raises(AssertionError, match="The call succeeded"):
            await next(refused)
        assert await api.balance("ada") == 2


async def test_a_call_whose_deadline_passes_in_the_queue_is_never_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = GatedStore()

    async def open_store(_: str) -> GatedStore:
        return store

    monkeypatch.setattr(app, "open_store", open_store)
    async with serving() as api:
        begun = asyncio.ensure_future(api.TopUp(user_id="ada", amount=1))
        await store.begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await api.TopUp(user_id="ada", amount=10, timeout=0.05)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        store.gate.set()
        await begun
        assert await api.balance("ada") == 1
