"""What those are told who are not let in: strangers, the too many, and the unreadable."""

import asyncio
from contextlib import suppress

import grpc
import pytest
from google.rpc import error_details_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server import app as wiring
from entitlements_server.app import running
from entitlements_server.settings import Settings
from support.access import (
    EVERYTHING,
    HEALTH,
    REFLECTION,
    SERVICE,
    STRANGERS,
    bearer,
    caller,
    code_of,
)
from support.rpc import Api, fails, failure, raw, raw_stream, raw_streams
from support.stores import GatedStore


async def test_refusals_say_what_to_do_and_name_no_credential(channel: grpc.aio.Channel) -> None:
    stub = Api(channel).stub
    with pytest.raises(grpc.aio.AioRpcError) as stranger:
        await stub.GetAccount(
            pb.GetAccountRequest(user_id="ada"), metadata=STRANGERS["wrong token"]
        )
    refused = failure(stranger.value)
    assert refused.reason == "UNAUTHENTICATED"
    assert "authorization: Bearer TOKEN" in refused.message
    assert "ent_nobody" not in str(refused)
    with pytest.raises(grpc.aio.AioRpcError) as reader:
        await stub.TopUp(pb.TopUpRequest(user_id="ada", amount=1), metadata=bearer("reader"))
    refused = failure(reader.value)
    assert refused.reason == "PERMISSION_DENIED"
    assert refused.metadata == {"caller": "reader", "role": "funder"}


async def test_a_caller_over_its_rate_is_told_when_to_come_back() -> None:
    callers = (caller("slow", *EVERYTHING, rate=0.01, burst=2), caller("other", *EVERYTHING))
    async with (
        running(Settings(listen="127.0.0.1:0"), callers) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = Api(channel).stub
        for _ in range(2):
            await stub.ListFeatures(pb.ListFeaturesRequest(), metadata=bearer("slow"))
        with pytest.raises(grpc.aio.AioRpcError) as third:
            await stub.ListFeatures(pb.ListFeaturesRequest(), metadata=bearer("slow"))
        refused = failure(third.value)
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == "RATE_LIMITED"
        assert refused.metadata == {"caller": "slow"}
        (retry,) = refused.details
        assert isinstance(retry, error_details_pb2.RetryInfo)
        delay_ms = retry.retry_delay.ToMilliseconds()
        assert 0 < delay_ms <= 100_000
        assert refused.trailers["grpc-retry-pushback-ms"] == str(delay_ms)
        await stub.ListFeatures(pb.ListFeaturesRequest(), metadata=bearer("other"))


async def test_a_batch_counts_as_what_it_holds() -> None:
    callers = (caller("slow", *EVERYTHING, rate=0.01, burst=10),)
    async with (
        running(Settings(listen="127.0.0.1:0"), callers) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = Api(channel).stub
        one = pb.ConsumeRequest(user_id="ada", feature="headline_pick")
        batch = pb.BatchConsumeRequest(requests=[one] * 10)
        await stub.BatchConsume(batch, metadata=bearer("slow"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Consume(one, metadata=bearer("slow"))
        assert failure(refused.value).reason == "RATE_LIMITED"


async def test_a_request_id_comes_back_with_the_error(channel: grpc.aio.Channel) -> None:
    call = raw(channel, "/x")(b"", metadata=(*bearer("all"), ("x-request-id", "r-1")))
    trailers = await call.trailing_metadata()
    assert trailers["x-request-id"] == "r-1"
    for insane in ("two words", "x" * 300):
        call = raw(channel, "/x")(b"", metadata=(*bearer("all"), ("x-request-id", insane)))
        made = str((await call.trailing_metadata())["x-request-id"])
        assert made not in ("", insane)


@pytest.mark.parametrize("path", [HEALTH, f"/{SERVICE.full_name}/Consume"])
async def test_what_a_parser_says_of_a_broken_request_stays_here(
    channel: grpc.aio.Channel, path: str
) -> None:
    call = raw(channel, path)(b"\xff\xff", metadata=bearer("all"))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = await call.details()
    assert details == "The field 'request' cannot be parsed."


async def test_a_broken_reflection_request_is_answered_alike(channel: grpc.aio.Channel) -> None:
    call = raw_streams(channel, REFLECTION)(iter([b"\xff\xff"]), metadata=bearer("all"))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be parsed" in str(await call.details())


async def test_health_is_answered_at_the_limit_of_calls_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the calls that are refused carry their pushback."""
    store = GatedStore()

    async def open_store(_: str) -> GatedStore:
        return store

    monkeypatch.setattr(wiring, "open_store", open_store)
    settings = Settings(listen="127.0.0.1:0", max_in_flight=1)
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        begun = asyncio.ensure_future(Api(channel).TopUp(user_id="ada", amount=1))
        await store.begun.wait()
        for _ in range(3):
            shed = await fails(Api(channel).GetAccount(user_id="ada"))
            assert (shed.code, shed.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
            assert shed.trailers["grpc-retry-pushback-ms"] == "500"
            assert await code_of(channel, HEALTH, ()) is grpc.StatusCode.OK
        store.gate.set()
        await begun
        assert await Api(channel).balance("ada") == 1


async def test_streaming_calls_have_a_limit_of_their_own() -> None:
    """Watches of health, which anyone may open, take no place from calls, nor grow for ever.

    Who watches a server's health takes UNAVAILABLE for its death, so what there is no room for is said not to
    be there.
    """
    async with (
        running(Settings(listen="127.0.0.1:0", max_in_flight=1, max_streaming=2)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = raw_stream(channel, "/grpc.health.v1.Health/Watch")
        watches = [watch(b"") for _ in range(2)]
        for one in watches:
            await one.read()
        surplus = watch(b"")
        assert await surplus.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "as many as it can" in str(await surplus.details())
        await Api(channel).ListFeatures()
        for one in watches:
            one.cancel()


async def test_one_connection_cannot_have_all_the_streams() -> None:
    settings = Settings(listen="127.0.0.1:0", max_streaming_per_connection=2)
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        grpc.aio.insecure_channel(
            server.address, (("grpc.use_local_subchannel_pool", 1),)
        ) as other,
    ):
        path = "/grpc.health.v1.Health/Watch"
        watches = [raw_stream(channel, path)(b"") for _ in range(2)]
        for one in watches:
            await one.read()
        shed = await fails(anext(aiter(raw_stream(channel, path)(b""))))
        assert (shed.code, shed.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        await Api(channel).ListFeatures()
        elsewhere = raw_stream(other, path)(b"")
        assert await elsewhere.read()
        watches[0].cancel()
        again = None
        while again is None:
            with suppress(grpc.aio.AioRpcError):
                again = await raw_stream(channel, path)(b"").read()
        for one in (*watches, elsewhere):
            one.cancel()


async def test_an_empty_batch_gives_nothing_of_the_rate_back() -> None:
    callers = (caller("slow", *EVERYTHING, rate=0.01, burst=2),)
    async with (
        running(Settings(listen="127.0.0.1:0"), callers) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        path = f"/{SERVICE.full_name}/BatchConsume"
        codes = [await code_of(channel, path, bearer("slow")) for _ in range(3)]
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        assert codes == [invalid, invalid, grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_a_watch_that_is_opened_while_the_server_stops_does_not_keep_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients that watch health open their watch again when it ends."""
    store = GatedStore()

    async def open_store(_: str) -> GatedStore:
        return store

    monkeypatch.setattr(wiring, "open_store", open_store)
    serving = running(Settings(listen="127.0.0.1:0", drain_seconds=60))
    server = await serving.__aenter__()
    async with grpc.aio.insecure_channel(server.address) as channel:
        begun = asyncio.ensure_future(Api(channel).TopUp(user_id="ada", amount=1))
        await store.begun.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        watch = raw_stream(channel, "/grpc.health.v1.Health/Watch")
        refused = None
        while refused is not grpc.StatusCode.UNAVAILABLE:
            # Before the server knows that it stops the watch is served, and then ended.
            refused = await watch(b"").code()
        store.gate.set()
        await begun
        async with asyncio.timeout(20):
            await stopping
