"""Who may call what: every RPC, every role, every kind of credential, and every way around."""

from typing import Any

import grpc
import pytest

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server.app import running
from entitlements_server.config.callers import Role
from entitlements_server.config.settings import Settings
from support.access import (
    CALLERS,
    HEALTH,
    NEEDED,
    RPCS,
    SERVICE,
    STRANGERS,
    bearer,
    code_of,
    reflects,
)
from support.rpc import Api, serving


def test_every_rpc_of_the_contract_has_a_role() -> None:
    assert set(RPCS) == set(NEEDED)


async def test_each_role_passes_exactly_its_rpcs(channel: grpc.aio.Channel) -> None:
    for rpc in RPCS:
        for role in Role:
            code = await code_of(channel, f"/{SERVICE.full_name}/{rpc}", bearer(role))
            allowed = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
            expected = allowed if NEEDED[rpc] is role else {grpc.StatusCode.PERMISSION_DENIED}
            assert code in expected, (rpc, role)
        code = await code_of(channel, f"/{SERVICE.full_name}/{rpc}", bearer("all"))
        assert code in allowed, rpc


@pytest.mark.parametrize("credentials", STRANGERS)
async def test_strangers_pass_nothing_but_health(
    channel: grpc.aio.Channel, credentials: str
) -> None:
    metadata = STRANGERS[credentials]
    for rpc in RPCS:
        code = await code_of(channel, f"/{SERVICE.full_name}/{rpc}", metadata)
        assert code is grpc.StatusCode.UNAUTHENTICATED, rpc
    assert await reflects(channel, metadata) is grpc.StatusCode.UNAUTHENTICATED
    assert await code_of(channel, HEALTH, metadata) is grpc.StatusCode.OK


OTHER_PATHS = [
    "/entitlements.v1.EntitlementService/consume",
    "/entitlements.v1.EntitlementService/Consume/",
    "/entitlements.v1.EntitlementService//Consume",
    "//entitlements.v1.EntitlementService/Consume",
    "/./entitlements.v1.EntitlementService/Consume",
    "/entitlements.v1.EntitlementService/%43onsume",
    "/entitlements.v1.EntitlementService/Consume?x=1",
    "/entitlements.v1.EntitlementService/Consume%20",
    "/ENTITLEMENTS.V1.EntitlementService/Consume",
    "/entitlements.v1.EntitlementService/",
    "/entitlements.v1.EntitlementService/DeleteAccount",
    "/grpc.health.v1.Health/check",
    "/grpc.health.v1.Health/Check/",
    "/grpc.health.v1.Health/List",
    "/grpc.channelz.v1.Channelz/GetServers",
    "/",
    "/x",
]


@pytest.mark.parametrize("path", OTHER_PATHS)
async def test_any_other_path_is_unknown_to_callers_and_closed_to_strangers(
    channel: grpc.aio.Channel, path: str
) -> None:
    assert await code_of(channel, path, bearer("all")) is grpc.StatusCode.UNIMPLEMENTED
    assert await code_of(channel, path, ()) is grpc.StatusCode.UNAUTHENTICATED
    assert await code_of(channel, path, bearer("late")) is grpc.StatusCode.UNAUTHENTICATED


async def test_reflection_is_for_callers_whatever_their_role(channel: grpc.aio.Channel) -> None:
    for role in Role:
        assert await reflects(channel, bearer(role)) is grpc.StatusCode.OK


async def test_reflection_can_be_open_or_off() -> None:
    for who, stranger, friend in (
        ("open", grpc.StatusCode.OK, grpc.StatusCode.OK),
        ("off", grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED),
    ):
        settings = Settings.model_validate({"listen": "127.0.0.1:0", "reflection": who})
        async with (
            running(settings, CALLERS) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            assert await reflects(channel, ()) is stranger
            assert await reflects(channel, bearer("reader")) is friend


async def test_without_any_callers_everyone_may_do_everything() -> None:
    async with serving() as api:
        response = await api.TopUp(user_id="ada", amount=1)
        assert response.transaction.caller == ""
        assert await code_of(api.channel, "/x", ()) is grpc.StatusCode.UNIMPLEMENTED


async def test_the_callers_name_is_recorded_on_each_transaction(channel: grpc.aio.Channel) -> None:
    async def call(rpc: str, name: str, **fields: Any) -> Any:
        return await getattr(Api(channel).stub, rpc)(
            getattr(pb, f"{rpc}Request")(**fields), metadata=bearer(name)
        )

    await call("TopUp", "funder", user_id="ada", amount=5)
    charge = await call("Consume", "charger", user_id="ada", feature="full_distribution")
    transaction_id = charge.transaction.transaction_id
    await call("Refund", "all", user_id="ada", transaction_id=transaction_id)
    history = await call("ListTransactions", "reader", user_id="ada")
    assert [one.caller for one in history.transactions] == ["all", "charger", "funder"]
