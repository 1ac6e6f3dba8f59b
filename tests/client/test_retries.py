"""What is tried again, how often, and that a charge which is tried again is one charge."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from entitlements import (
    AsyncEntitlementClient,
    EntitlementClient,
    FeatureTier,
    ServiceUnavailableError,
    Transaction,
    TransactionKind,
    _channel,
)
from entitlements.v1 import entitlement_service_pb2 as rpc
from support.server_process import ServerProcess
from support.wire import Wire

FULL = FeatureTier.FULL_DISTRIBUTION
Answer = Callable[[grpc.ServicerContext], bytes]


class Scripted(grpc.GenericRpcHandler):
    """A service that answers as the test says, and counts. Of its health it says nothing."""

    def __init__(self, answer: Answer) -> None:
        self.tries: list[dict[str, Any]] = []
        self._answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if not details.method.startswith("/entitlements."):
            return None

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.tries.append(dict(details.invocation_metadata))
            return self._answer(context)

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def scripted(answer: Answer, address: str = "127.0.0.1:0") -> Iterator[tuple[Scripted, str]]:
    handler = Scripted(answer)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def refuse(code: grpc.StatusCode, pushback_ms: str | None = None) -> Answer:
    def answer(context: grpc.ServicerContext) -> bytes:
        if pushback_ms is not None:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback_ms),))
        context.abort(code, "not now")
        raise AssertionError

    return answer


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_unavailable_and_cancelled_by_the_service_are_tried_five_times(
    code: grpc.StatusCode,
) -> None:
    """And no more. The pushback of a millisecond is honoured, or this would take five seconds."""
    with (
        scripted(refuse(code, "1")) as (service, address),
        EntitlementClient(address) as client,
    ):
        with pytest.raises(ServiceUnavailableError):
            client.top_up("ada", 1)
        assert len(service.tries) == 5


def test_a_pushback_that_says_no_is_honoured() -> None:
    """A negative pushback means: do not try again."""
    with (
        scripted(refuse(grpc.StatusCode.UNAVAILABLE, "-1")) as (service, address),
        EntitlementClient(address) as client,
    ):
        with pytest.raises(ServiceUnavailableError):
            client.top_up("ada", 1)
        assert len(service.tries) == 1


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code.name not in {"OK", "UNAVAILABLE", "CANCELLED"}],
    ids=lambda code: code.name,
)
def test_nothing_else_is_tried_again(code: grpc.StatusCode) -> None:
    """It would fail the same way, or is an answer."""
    with scripted(refuse(code)) as (service, address), EntitlementClient(address) as client:
        with pytest.raises(Exception, match="not now"):
            client.top_up("ada", 1)
        assert len(service.tries) == 1


def test_several_addresses_share_the_calls() -> None:
    """Each of two services gets some, and when one goes the other carries on."""

    def catalogue(_: grpc.ServicerContext) -> bytes:
        return rpc.ListFeaturesResponse().SerializeToString()

    with (
        scripted(catalogue) as (one, first),
        ExitStack() as stack,
    ):
        two, second = stack.enter_context(scripted(catalogue))
        with EntitlementClient(f"{first},{second}") as client:
            for _ in range(1000):
                client.list_features()
                if one.tries and two.tries:
                    break
            assert one.tries
            assert two.tries
            stack.close()
            before = len(one.tries)
            for _ in range(4):
                client.list_features()
            assert len(one.tries) == before + 4


def test_the_deadline_ends_a_call_that_gets_no_answer() -> None:
    """A service that never answers is one that cannot be reached."""
    over = threading.Event()

    def silence(_: grpc.ServicerContext) -> bytes:
        over.wait()
        return b""

    with scripted(silence) as (_, address), EntitlementClient(address, deadline_s=0.2) as client:
        with pytest.raises(ServiceUnavailableError, match="did not answer in time") as failure:
            client.check_feature_access("ada", FULL)
        over.set()
    assert failure.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("gate", ["check_feature_access", "require_tokens"])
def test_a_service_that_is_not_there_grants_nothing(gate: str, unused_tcp_port: int) -> None:
    """Both gates raise; neither says yes."""
    with (
        EntitlementClient(f"127.0.0.1:{unused_tcp_port}", deadline_s=0.5) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        getattr(client, gate)(user_id="ada", feature=FULL)


async def test_the_asyncio_client_grants_nothing_either(unused_tcp_port: int) -> None:
    """And its error has the key under which the charge may be settled."""
    async with AsyncEntitlementClient(f"127.0.0.1:{unused_tcp_port}", deadline_s=0.5) as client:
        with pytest.raises(ServiceUnavailableError):
            await client.check_feature_access("ada", FULL)
        with pytest.raises(ServiceUnavailableError) as failure:
            await client.require_tokens(user_id="ada", feature=FULL)
        assert len(failure.value.idempotency_key) == 32


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_a_server_killed_and_restarted_in_mid_call_charges_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charge is on disk and its reply is lost: gRPC tries again, and the key makes it one."""
    # Five tries within 5 s may be over before a busy machine has connected again.
    [method] = _channel.SERVICE_CONFIG["methodConfig"]
    monkeypatch.setitem(method["retryPolicy"], "initialBackoff", "1s")
    with (
        ServerProcess("--store", f"sqlite://{tmp_path}/ledger.sqlite") as service,
        closing(Wire(service.address)) as wire,
    ):
        connected, go = asyncio.Event(), asyncio.Event()
        call = asyncio.create_task(_consume(kind, wire.address, connected, go))
        with EntitlementClient(service.address) as direct:
            direct.top_up("ada", 10)
            await connected.wait()
            wire.hold_replies()
            go.set()
            # Charged, for everyone to see, before the one who asked has heard of it.
            async with asyncio.timeout(60):
                while direct.get_account("ada").balance == 10:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            assert not call.done()
        service.kill()
        service.start()
        # For a moment longer nobody is there, counted in connections and not in seconds.
        wire.refuse = 1
        wire.cut()
        tx = await call
        assert tx.replayed
        assert tx.balance_after == 8
        with EntitlementClient(service.address) as direct:
            charges = list(direct.list_transactions("ada", kind=TransactionKind.CONSUME))
            assert [each.transaction_id for each in charges] == [tx.transaction_id]
            assert direct.get_account("ada").balance == 8


async def _consume(
    kind: str, address: str, connected: asyncio.Event, go: asyncio.Event
) -> Transaction:
    # A minute, and not the default: a busy machine may take long to start the second process.
    if kind == "blocking":
        with EntitlementClient(address, deadline_s=60) as client:
            await asyncio.to_thread(client.list_features)
            connected.set()
            await go.wait()
            return await asyncio.to_thread(client.consume, "ada", FULL)
    async with AsyncEntitlementClient(address, deadline_s=60) as client:
        await client.list_features()
        connected.set()
        await go.wait()
        return await client.consume("ada", FULL)
