"""What a charge is measured beside does what the bench takes for granted."""

from typing import Any

import grpc
import pytest
from servers import reference

from entitlements.v1 import entitlement_service_pb2 as pb


@pytest.mark.parametrize("module", ["grpc_aio", "completion_queue"])
async def test_an_empty_server_answers_any_path_with_a_charge(module: str) -> None:
    async with (
        reference(module) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for path in ("/entitlements.v1.EntitlementService/Consume", "/some.Other/Path"):
            call: Any = channel.unary_unary(path)
            answer = await call(b"\x0a\x03abc", metadata=(("authorization", "Bearer x"),))
            transaction = pb.ConsumeResponse.FromString(answer).transaction
            assert transaction.feature == "full_distribution"
            assert 190 <= len(answer) <= 300
        assert server.cpu_s() > 0
