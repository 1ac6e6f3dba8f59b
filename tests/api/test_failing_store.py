"""What callers learn when something goes wrong that is not their fault."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from entitlements_server.api.routes import SERVICE
from entitlements_server.stores.interface import StoreUnavailableError
from support.rpc import Api, fails, serving
from support.stores import FailingStore

SECRET = "postgres://admin:hunter2@db"  # planted


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
