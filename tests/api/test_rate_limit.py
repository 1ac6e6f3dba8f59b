"""How often a caller may call: its bucket, and what it is answered when that is empty."""

import grpc
import pytest
from google.rpc import error_details_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.api.rate_limit import Bucket
from support.access import EVERYTHING, SERVICE, bearer, caller, code_of
from support.rpc import failure, serving


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = Bucket(rate=2, burst=3, filled_at=0)
    assert [bucket.take(0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0) == 0.5
    assert bucket.take(0.25) == 0.25
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) == 0.5
    # However long nobody called, no more than a burst has gathered.
    assert [bucket.take(100) for _ in range(4)] == [0, 0, 0, 0.5]


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_that_lets_nothing_through_cannot_be_made(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Bucket(rate, burst)


async def test_a_call_over_the_rate_is_answered_with_a_retry_delay() -> None:
    callers = (caller("slow", *EVERYTHING, rate=0.01, burst=2), caller("other", *EVERYTHING))
    async with serving(callers) as api:
        stub = api.stub
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
    async with serving(callers) as api:
        stub = api.stub
        one = pb.ConsumeRequest(user_id="ada", feature="headline_pick")
        batch = pb.BatchConsumeRequest(requests=[one] * 10)
        await stub.BatchConsume(batch, metadata=bearer("slow"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Consume(one, metadata=bearer("slow"))
        assert failure(refused.value).reason == "RATE_LIMITED"


async def test_an_empty_batch_gives_nothing_of_the_rate_back() -> None:
    callers = (caller("slow", *EVERYTHING, rate=0.01, burst=2),)
    async with serving(callers) as api:
        path = f"/{SERVICE.full_name}/BatchConsume"
        codes = [await code_of(api.channel, path, bearer("slow")) for _ in range(3)]
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        assert codes == [invalid, invalid, grpc.StatusCode.RESOURCE_EXHAUSTED]
