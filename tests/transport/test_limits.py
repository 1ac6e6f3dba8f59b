"""The limits of the transport: what is too large or too much is rejected, and the server lives."""

import asyncio

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from entitlements_server.transport.options import MAX_METADATA_BYTES, MAX_REQUEST_BYTES
from support.rpc import Api, raw


async def test_the_largest_batch_fits_and_a_larger_request_is_rejected() -> None:
    async with (
        running(Settings(listen="127.0.0.1:0")) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        api = Api(channel)
        charge = pb.ConsumeRequest(
            user_id="é" * 64, feature="f" * 128, event_id="e" * 128, idempotency_key="k" * 255
        )
        results = (await api.BatchConsume(requests=[charge] * 1000)).results
        assert len(results) == 1000
        consume = raw(channel, "/entitlements.v1.EntitlementService/Consume")
        assert await consume(b"x" * (MAX_REQUEST_BYTES + 1)).code() is (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        assert await api.balance("ada") == 0


async def test_more_metadata_than_allowed_is_rejected() -> None:
    async with (
        running(Settings(listen="127.0.0.1:0")) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = Api(channel).stub
        request = pb.ListFeaturesRequest()
        large = (("x-large", "x" * MAX_METADATA_BYTES),)
        code = await stub.ListFeatures(request, metadata=large).code()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await stub.ListFeatures(request).code() is grpc.StatusCode.OK


async def test_streams_beyond_the_limit_of_a_connection_wait_or_are_reset_unread() -> None:
    settings = Settings(listen="127.0.0.1:0", max_streams=2)
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        api = Api(channel)
        calls = [api.TopUp(user_id="ada", amount=1) for _ in range(200)]
        codes = [await call.code() for call in calls]
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        apart = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(server.address, apart) as other:
            balance = await Api(other).balance("ada")
        assert balance == codes.count(grpc.StatusCode.OK) > 0


async def test_a_connection_that_has_come_of_age_is_replaced_without_a_failed_call() -> None:
    settings = Settings(listen="127.0.0.1:0", connection_age_seconds=1)
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        api = Api(channel)
        await api.ListFeatures()
        lost = asyncio.Event()

        async def watch() -> None:
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            lost.set()

        watching = asyncio.create_task(watch())
        calls = 0
        while not lost.is_set():
            await api.TopUp(user_id="ada", amount=1)
            calls += 1
        assert await api.balance("ada") == calls
        await watching
