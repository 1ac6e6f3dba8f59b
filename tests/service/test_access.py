"""Who may call what: every RPC, every role, every kind of credential, and every way around."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server import server as wiring
from entitlements_server.callers import Caller, Role, token_hash
from entitlements_server.server import running
from entitlements_server.service import gate
from entitlements_server.settings import Settings
from support.certificates import Authority, ServerFiles
from support.rpc import Api, fails, failure
from support.stores import GatedStore

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"]
RPCS = [method.name for method in SERVICE.methods]
READER, CHARGER, FUNDER = Role.READER, Role.CHARGER, Role.FUNDER
NEEDED = {
    "CheckAccess": READER,
    "BatchCheckAccess": READER,
    "GetAccount": READER,
    "GetTransaction": READER,
    "ListTransactions": READER,
    "ListFeatures": READER,
    "Consume": CHARGER,
    "BatchConsume": CHARGER,
    "Refund": CHARGER,
    "TopUp": FUNDER,
    "SetBalance": FUNDER,
}
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
EVERYTHING = frozenset(Role)

Metadata = tuple[tuple[str, str], ...]


def caller(name: str, *roles: Role, **fields: Any) -> Caller:
    return Caller(
        name=name, roles=frozenset(roles), token_hashes=(token_hash(f"ent_{name}"),), **fields
    )


def bearer(name: str) -> Metadata:
    return (("authorization", f"Bearer ent_{name}"),)


CALLERS = (
    caller("reader", READER),
    caller("charger", CHARGER),
    caller("funder", FUNDER),
    caller("all", *EVERYTHING),
    caller("late", *EVERYTHING, expires_s=1),
)
STRANGERS: dict[str, Metadata] = {
    "none": (),
    "wrong token": (("authorization", "Bearer ent_nobody"),),
    "no token": (("authorization", "Bearer "),),
    "another scheme": (("authorization", "Basic ent_all"),),
    "two tokens": bearer("all") + bearer("reader"),
    "expired": bearer("late"),
    "a token's hash": (("authorization", f"Bearer {token_hash('ent_all').hex()}"),),
    "another header": (("x-authorization", "Bearer ent_all"),),
    "too long": (("authorization", "Bearer " + "x" * 2000),),
}


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    settings = Settings(listen="127.0.0.1:0")
    async with (
        running(settings, CALLERS) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield channel


async def code_of(
    channel: grpc.aio.Channel, path: str, metadata: Metadata, request: bytes = b""
) -> grpc.StatusCode:
    """How a call ends. An empty request is let in and then found invalid, or answered."""
    call = channel.unary_unary(path)(request, metadata=metadata, timeout=30)
    code: grpc.StatusCode = await call.code()
    return code


async def reflects(channel: grpc.aio.Channel, metadata: Metadata) -> grpc.StatusCode:
    call = channel.stream_stream(REFLECTION)(iter([b""]), metadata=metadata, timeout=30)
    with suppress(grpc.aio.AioRpcError):
        assert [response async for response in call]
    code: grpc.StatusCode = await call.code()
    return code


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
    async with (
        running(Settings(listen="127.0.0.1:0")) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        response = await Api(channel).TopUp(user_id="ada", amount=1)
        assert response.transaction.caller == ""
        assert await code_of(channel, "/x", ()) is grpc.StatusCode.UNIMPLEMENTED


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
    call = channel.unary_unary("/x")(b"", metadata=(*bearer("all"), ("x-request-id", "r-1")))
    trailers = await call.trailing_metadata()
    assert trailers["x-request-id"] == "r-1"
    for insane in ("two words", "x" * 300):
        call = channel.unary_unary("/x")(b"", metadata=(*bearer("all"), ("x-request-id", insane)))
        made = str((await call.trailing_metadata())["x-request-id"])
        assert made not in ("", insane)


@pytest.mark.parametrize("path", [HEALTH, f"/{SERVICE.full_name}/Consume"])
async def test_what_a_parser_says_of_a_broken_request_stays_here(
    channel: grpc.aio.Channel, path: str
) -> None:
    call = channel.unary_unary(path)(b"\xff\xff", metadata=bearer("all"))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = await call.details()
    assert details == "The field 'request' cannot be read as its message."


async def test_a_broken_reflection_request_is_answered_alike(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(REFLECTION)(iter([b"\xff\xff"]), metadata=bearer("all"))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in str(await call.details())


async def test_a_client_certificate_is_a_credential(tmp_path: Path) -> None:
    """By subject alternative name, or by the common name when there is none."""
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    callers = (
        Caller(name="web", roles=frozenset({CHARGER}), certificate="spiffe://example.org/web"),
        Caller(name="job", roles=frozenset({READER}), certificate="job"),
        Caller(name="old", roles=EVERYTHING, certificate="old", expires_s=1),
        caller("all", *EVERYTHING),
    )
    settings = Settings(
        listen="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
    )
    allowed = grpc.StatusCode.INVALID_ARGUMENT
    denied, unknown = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
    consume, account = (f"/{SERVICE.full_name}/{rpc}" for rpc in ("Consume", "GetAccount"))
    async with running(settings, callers) as server:
        for subject, names, to_consume, to_read in (
            ("any", ("spiffe://example.org/web",), allowed, denied),
            ("job", (), denied, allowed),
            ("job", ("elsewhere.example.org",), unknown, unknown),
            ("old", (), unknown, unknown),
            ("nobody", (), unknown, unknown),
        ):
            certificate, key = authority.issue(subject, *names)
            credentials = grpc.ssl_channel_credentials(authority.pem, key, certificate)
            async with grpc.aio.secure_channel(server.address, credentials) as channel:
                assert await code_of(channel, consume, ()) is to_consume, (subject, names)
                assert await code_of(channel, account, ()) is to_read, (subject, names)
                assert await code_of(channel, HEALTH, ()) is grpc.StatusCode.OK
                # A token counts before the certificate, a wrong one too.
                assert await code_of(channel, consume, bearer("all")) is allowed
                assert await code_of(channel, account, bearer("x")) is unknown
                path = "/entitlements.v1.EntitlementService/consume"
                known = grpc.StatusCode.UNIMPLEMENTED if to_read is not unknown else unknown
                assert await code_of(channel, path, ()) is known
                assert await reflects(channel, ()) is (
                    unknown if to_read is unknown else grpc.StatusCode.OK
                )


async def test_a_client_without_a_certificate_cannot_even_connect_to_mutual_tls(
    tmp_path: Path,
) -> None:
    authority, stranger = Authority(), Authority("Another")
    files = ServerFiles(tmp_path, authority)
    settings = Settings(
        listen="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        tls_client_ca=files.client_ca,
    )
    certificate, key = stranger.issue("web")
    async with running(settings, CALLERS) as server:
        for credentials in (
            grpc.ssl_channel_credentials(authority.pem),
            grpc.ssl_channel_credentials(authority.pem, key, certificate),
        ):
            async with grpc.aio.secure_channel(server.address, credentials) as channel:
                code = await code_of(channel, HEALTH, bearer("all"))
                assert code is grpc.StatusCode.UNAVAILABLE


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


async def test_streaming_calls_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches of health, which anyone may open, take no place from calls, nor grow for ever."""
    monkeypatch.setattr(gate, "MAX_STREAMING", 2)
    async with (
        running(Settings(listen="127.0.0.1:0", max_in_flight=1)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watches = [watch(b"") for _ in range(2)]
        for one in watches:
            await one.read()
        shed = await fails(anext(aiter(watch(b""))))
        assert (shed.code, shed.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        await Api(channel).ListFeatures()
        for one in watches:
            one.cancel()
