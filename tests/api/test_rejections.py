"""What callers are answered who are not let in, or whose request cannot be read."""

import grpc
import pytest

from entitlements.v1 import entitlement_service_pb2 as pb
from support.access import HEALTH, REFLECTION, SERVICE, STRANGERS, bearer
from support.rpc import Api, failure, raw, raw_streams


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
