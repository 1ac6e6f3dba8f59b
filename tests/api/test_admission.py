"""Whether there is room for a call, and what is said when there is none."""

import asyncio
from contextlib import suppress

import grpc
import pytest
from google.rpc import error_details_pb2

from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from support.access import HEALTH, code_of
from support.rpc import Api, fails, raw_stream, serving
from support.stores import GatedStore


async def test_a_full_queue_is_overloaded_and_says_when_to_retry(
    gated: GatedStore,
) -> None:
    async with serving(max_queued=1) as api:
        begun = asyncio.ensure_future(api.TopUp(user_id="ada", amount=1))
        await gated.begun.wait()
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
        gated.gate.set()
        await asyncio.wait([begun, *calls])
        with pytest.raises(AssertionError, match="The call succeeded"):
            await next(refused)
        assert await api.balance("ada") == 2


async def test_a_call_whose_deadline_passes_in_the_queue_is_never_charged(
    gated: GatedStore,
) -> None:
    async with serving() as api:
        begun = asyncio.ensure_future(api.TopUp(user_id="ada", amount=1))
        await gated.begun.wait()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await api.TopUp(user_id="ada", amount=10, timeout=0.05)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        gated.gate.set()
        await begun
        assert await api.balance("ada") == 1


async def test_health_is_answered_at_the_limit_of_calls_in_flight(
    gated: GatedStore,
) -> None:
    """And the calls that are shed carry their pushback."""
    async with serving(max_in_flight=1) as api:
        begun = asyncio.ensure_future(api.TopUp(user_id="ada", amount=1))
        await gated.begun.wait()
        for _ in range(3):
            shed = await fails(api.GetAccount(user_id="ada"))
            assert (shed.code, shed.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
            assert shed.trailers["grpc-retry-pushback-ms"] == "500"
            assert await code_of(api.channel, HEALTH, ()) is grpc.StatusCode.OK
        gated.gate.set()
        await begun
        assert await api.balance("ada") == 1


async def test_streaming_calls_have_a_limit_of_their_own() -> None:
    """Watches of health, which anyone may open, take no place from calls, nor grow for ever.

    Who watches a server's health takes UNAVAILABLE for its death, so what there is no room for is said not to
    be there.
    """
    async with serving(max_in_flight=1, max_streaming=2) as api:
        watch = raw_stream(api.channel, "/grpc.health.v1.Health/Watch")
        watches = [watch(b"") for _ in range(2)]
        for one in watches:
            await one.read()
        surplus = watch(b"")
        assert await surplus.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "as many as it can" in str(await surplus.details())
        await api.ListFeatures()
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
