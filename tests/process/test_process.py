"""The server as operators know it: a process, its file, its signals and its tools."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.programs import tool
from support.rpc import Api
from support.server_process import ServerProcess, run, served


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/ledger.sqlite"


@pytest.fixture
def server(store: str) -> Iterator[ServerProcess]:
    with ServerProcess("--store", store) as server:
        yield server


def test_on_start_it_says_where_it_listens_which_store_and_what_to_try(
    server: ServerProcess, store: str
) -> None:
    assert f"Listening on {server.address}" in server.output
    assert f"Ledger in {store}" in server.output
    assert "Try: grpcurl -plaintext" in server.output


async def test_a_restart_keeps_everything(store: str) -> None:
    request = {"user_id": "ada", "feature": "full_distribution", "idempotency_key": "k-1"}
    async with served("--store", store) as (server, channel):
        api = Api(channel)
        await api.TopUp(user_id="ada", amount=10)
        charge = await api.Consume(**request)
        account = await api.GetAccount(user_id="ada")
        history = await api.history("ada")
        await channel.close()
        server.stop()
    async with served("--store", store) as (_, channel):
        api = Api(channel)
        assert await api.GetAccount(user_id="ada") == account
        assert await api.history("ada") == history
        again = await api.Consume(**request)
        assert again.replayed
        assert again.transaction == charge.transaction


async def test_sigterm_finishes_what_is_in_flight_and_ends_well(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        api = Api(channel)
        free = pb.ConsumeRequest(user_id="ada", feature="headline_pick")
        batches = [api.BatchConsume(requests=[free] * 1000) for _ in range(4)]
        # The first answer shows that the others are in flight.
        await batches[0]
        server.signal(signal.SIGTERM)
        for batch in batches:
            assert len((await batch).results) == 1000
    server.stop()
    assert "Stopping: finishing the calls in flight." in server.output
    assert server.output.endswith("Stopped.\n")


async def test_on_sigterm_health_says_not_serving(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        statuses = []
        async for response in watch:
            statuses.append(response.status)
            if response.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                break
            server.signal(signal.SIGTERM)
        watch.cancel()
    assert statuses[0] == health_pb2.HealthCheckResponse.SERVING
    server.stop()


def test_a_second_server_on_the_same_file_is_refused_with_who_has_it(
    server: ServerProcess, store: str
) -> None:
    refused = run("serve", "--listen", "127.0.0.1:0", "--store", store)
    assert refused.returncode == 1
    assert f"is in use by process {server.pid}" in refused.stderr
    assert "name another file" in refused.stderr


def test_a_second_server_on_the_same_port_is_refused(server: ServerProcess) -> None:
    refused = run("serve", "--listen", server.address, "--store", "memory://")
    assert refused.returncode == 1
    assert f"The server cannot listen on {server.address}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "here"], "write HOST:PORT"),
        (["--store", "mysql://user:hunter2@db/x"], "The kind of the store"),
        (["--store", "sqlite://ledger.sqlite"], "the absolute path"),
        (["--store", "sqlite:///no/such/folder/ledger.sqlite"], "its folder must exist"),
        (["--catalogue", "/no/such/file.toml"], "cannot be read"),
        (["--max-queued", "0"], "--max-queued is wrong"),
        (["--log-format", "xml"], "--log-format is wrong"),
    ],
)
def test_a_wrong_option_is_answered_with_a_sentence_and_no_secret(
    options: list[str], words: str
) -> None:
    refused = run("serve", "--listen", "127.0.0.1:0", *options)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hunter2" not in refused.stderr


async def test_sighup_reads_the_catalogue_again(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    text = '[[features]]\nfeature = "headline_pick"\ncost = {}\ntitle = "Headline"\n'
    path.write_text(text.format(0))
    async with served("--catalogue", str(path)) as (server, channel):
        api = Api(channel)
        before = (await api.ListFeatures()).catalogue_version
        path.write_text(text.format(1))
        server.signal(signal.SIGHUP)
        while (features := await api.ListFeatures()).catalogue_version == before:
            pass
        assert features.features[0].cost == 1


def test_sigkill_in_mid_load_loses_no_acknowledged_charge_and_charges_nothing_twice(
    store: str,
) -> None:
    """Every key that was acknowledged replays as the same transaction after the restart."""
    acknowledged: dict[str, str] = {}
    with ServerProcess("--store", store, "--max-streams", "8192") as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = EntitlementServiceStub(channel)
            stub.SetBalance(pb.SetBalanceRequest(user_id="ada", balance=1_000_000))
            requests = {
                f"k-{number}": pb.ConsumeRequest(
                    user_id="ada", feature="full_distribution", idempotency_key=f"k-{number}"
                )
                for number in range(3000)
            }
            calls = {key: stub.Consume.future(request) for key, request in requests.items()}
            for key, call in calls.items():
                if len(acknowledged) == 100:
                    server.kill()
                try:
                    acknowledged[key] = call.result().transaction.transaction_id
                except (grpc.RpcError, grpc.FutureCancelledError):
                    continue  # It is unknown whether this one was charged.
        assert 100 <= len(acknowledged) < 3000
    with (
        ServerProcess("--store", store, "--max-streams", "8192") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        again = {key: stub.Consume.future(request) for key, request in requests.items()}
        for key, call in again.items():
            response = call.result()
            if key in acknowledged:
                assert response.replayed
                assert response.transaction.transaction_id == acknowledged[key]
        account = stub.GetAccount(pb.GetAccountRequest(user_id="ada"))
        assert account.balance == 1_000_000 - 2 * 3000
        assert account.transaction_count == 1 + 3000


def test_grpcurl_calls_it_by_reflection_and_decodes_the_details_of_errors(
    server: ServerProcess,
) -> None:
    def grpcurl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tool("grpcurl"), "-plaintext", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    method = "entitlements.v1.EntitlementService/Consume"
    listed = grpcurl(server.address, "list")
    assert listed.stdout.split() == [
        "entitlements.v1.EntitlementService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    free = grpcurl("-d", '{"user_id": "ada", "feature": "headline_pick"}', server.address, method)
    assert json.loads(free.stdout)["transaction"]["feature"] == "headline_pick"
    denied = grpcurl(
        "-d", '{"user_id": "ada", "feature": "full_distribution"}', server.address, method
    )
    assert "Code: FailedPrecondition" in denied.stderr
    assert '"reason": "INSUFFICIENT_TOKENS"' in denied.stderr
    assert '"required": "2"' in denied.stderr


def test_ghz_loads_it_and_every_balance_adds_up_even_after_a_kill(
    store: str, tmp_path: Path
) -> None:
    """10,000 charges at 100 in flight over 1,000 users."""
    users = [f"user-{number}" for number in range(1000)]
    data = tmp_path / "requests.json"
    data.write_text(json.dumps([{"user_id": one, "feature": "full_distribution"} for one in users]))
    with (
        ServerProcess("--store", store) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        for user_id in users:
            stub.SetBalance(pb.SetBalanceRequest(user_id=user_id, balance=10**9))
        report = subprocess.run(
            [
                tool("ghz"),
                "--insecure",
                "--call=entitlements.v1.EntitlementService/Consume",
                f"--data-file={data}",
                "--concurrency=100",
                "--total=10000",
                "--format=json",
                server.address,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = json.loads(report.stdout)
        codes, errors = said["statusCodeDistribution"], said["errorDistribution"]
        assert codes == {"OK": 10_000}, f"{errors}\n{server.log}"
        assert charges_that_add_up(stub, users) == 10_000
        server.kill()
    with (
        ServerProcess("--store", store) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert charges_that_add_up(EntitlementServiceStub(channel), users) == 10_000


def test_a_client_that_keeps_to_the_limit_of_streams_is_refused_nothing() -> None:
    """Calls that have ended do not count, however long a server takes to clean up after them."""
    with ServerProcess("--store", "memory://", "--max-streams", "300") as server:
        report = subprocess.run(
            [
                tool("ghz"),
                "--insecure",
                "--call=entitlements.v1.EntitlementService/TopUp",
                '--data={"user_id": "ada", "amount": 1}',
                "--concurrency=100",
                "--total=5000",
                "--format=json",
                server.address,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = json.loads(report.stdout)
        assert said["statusCodeDistribution"] == {"OK": 5000}, said["errorDistribution"]


def charges_that_add_up(stub: Any, users: list[str]) -> int:
    """The charges of all users, each of whose balance is 10^9 less 2 for each charge."""
    charges = 0
    for user_id in users:
        account = stub.GetAccount(pb.GetAccountRequest(user_id=user_id))
        mine = account.transaction_count - 1
        assert account.balance == 10**9 - 2 * mine
        charges += mine
    return charges


def test_the_port_is_given_back_at_once(server: ServerProcess) -> None:
    server.stop()
    host, _, port = server.address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, int(port)))
