"""A generator's figures are of calls that did what they were to do."""

from pathlib import Path

import grpc
import pytest
from filling import fill
from generators import GENERATORS, run
from generators.h2load import FAILED
from generators.load import OK, Calls, Target
from servers import Server, reference, serving
from sides import sides
from workloads import ACCESS, CONSUME_METHOD, KEYLESS

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.programs import tool

CHECKS = ACCESS.make(1)


async def _fund(server: Server, tokens: int) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        await EntitlementServiceStub(channel).TopUp(
            pb.TopUpRequest(user_id="user-00000", amount=tokens, reason="test")
        )


@pytest.mark.parametrize(("tokens", "all_failed"), [(10**9, False), (4, True)])
async def test_h2load_counts_denials_as_failures(tokens: int, all_failed: bool) -> None:
    """It reads no gRPC status, and two charges are all that 4 tokens pay for."""
    tool("h2load")
    async with serving("memory://") as server:
        await _fund(server, tokens)
        load = await run(GENERATORS["h2load"], Target(server.address), KEYLESS.make(1), 1)
    assert load.calls > 10
    failed = load.codes[FAILED]
    assert failed > 0.9 * load.calls if all_failed else failed == 0
    assert load.percentile_ms(0.5) > 0


async def test_a_generator_that_runs_out_of_new_keys_is_an_error() -> None:
    """Replays would be measured in place of charges."""
    calls = Calls(CONSUME_METHOD, [b""] * 10, in_flight=8, once=True)
    async with reference("grpc_aio") as server:
        with pytest.raises(SystemExit, match="replays"):
            await run(GENERATORS["python"], Target(server.address), [calls], 0.5)


@pytest.mark.parametrize("name", ["ghz", "h2load", "python"])
async def test_a_bearer_token_goes_with_every_call(name: str, tmp_path: Path) -> None:
    """The server lets nobody in without it."""
    if name != "python":
        tool(name)
    ledger = tmp_path / "ledger.sqlite"
    await fill(ledger, 0, lambda _: None)
    async with sides(ledger, ()) as found:
        ships = found[0]
        load = await run(GENERATORS[name], ships.target, CHECKS, 0.5)
        assert set(+load.codes) == {OK}
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            async with grpc.aio.insecure_channel(ships.server.address) as channel:
                await EntitlementServiceStub(channel).ListFeatures(pb.ListFeaturesRequest())
