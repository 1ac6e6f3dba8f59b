"""What callers learn when something goes wrong that is not their fault."""

from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.api.routes import SERVICE
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import (
    CommandResult,
    DamagedRecordError,
    Failed,
    StoreUnavailableError,
)
from entitlements_server.stores.memory import MemoryStore
from support.rpc import Api, fails, serving
from support.stores import FailingStore, used_by_servers

SECRET = "postgres://admin:hunter2@db"  # planted


@pytest.fixture
async def api(failing: FailingStore) -> AsyncIterator[Api]:
    async with serving() as api:
        yield api


async def test_an_unforeseen_error_is_answered_with_a_reference_and_logged_whole(
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


class DamagedStore(MemoryStore):
    """Cannot read what is stored of bob."""

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        sound = [command for command in commands if command.user_id != "bob"]
        rest = iter(await super().commit(sound, rule))
        return [
            Failed(self.error()) if command.user_id == "bob" else next(rest) for command in commands
        ]

    def known_account(self, user_id: str) -> Account | None:
        return None if user_id == "bob" else super().known_account(user_id)

    async def account(self, user_id: str) -> Account:
        raise self.error()

    @staticmethod
    def error() -> DamagedRecordError:
        return DamagedRecordError("bob", "a row", "a secret")


async def test_a_damaged_record_is_answered_with_a_reference_in_reads_writes_and_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used_by_servers(DamagedStore(), monkeypatch)
    async with serving() as api:
        with capture_logs() as lines:
            await api.TopUp(user_id="ada", amount=10)
            written = await fails(api.TopUp(user_id="bob", amount=1))
            read = await fails(api.GetAccount(user_id="bob"))
            batch = await api.BatchConsume(
                requests=[
                    pb.ConsumeRequest(user_id=user, feature="full_distribution")
                    for user in ("ada", "bob", "ada")
                ]
            )
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert (line["user_id"], line["record"], line["problem"]) == ("bob", "a row", "a secret")
    for failure in (written, read):
        assert failure.code is grpc.StatusCode.DATA_LOSS
        assert failure.reason == "RECORD_DAMAGED"
        assert failure.metadata["reference"] == line["reference"]
        assert line["reference"] in failure.message
        assert "a secret" not in str(failure)
    told = [one.WhichOneof("outcome") for one in batch.results]
    assert told == ["response", "error", "response"]
    assert batch.results[1].error.message == written.message
