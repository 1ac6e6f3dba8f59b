"""Callers that are not ours: each is denied with readable details, charges, and reads a stream."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements import AccessDeniedError, EntitlementClient, FeatureTier
from support.http2 import ACK, GOAWAY, PING, Frame, Http2Connection
from support.once import once
from support.programs import tool
from support.repository import ROOT, TESTS
from support.server_process import ServerProcess

PEERS = TESTS / "peers"
# protoc and protobufjs find google/rpc there.
PROTO_FOLDERS = (str(ROOT / "protos"), str(ROOT / "protos" / "third_party" / "googleapis"))

SERVICE = "entitlements.v1.EntitlementService"
CONSUME = f"{SERVICE}/Consume"
WATCH = "grpc.health.v1.Health/Watch"

PINGS_EVERY_S = 1.1
"""As often as a caller may ping; our own client pings every two seconds."""


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def printed(*words: str | Path) -> Any:
    """The JSON that a program prints."""
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def give(server: ServerProcess, user: str) -> None:
    """Enough for one charge of 2, and not for a second one."""
    with EntitlementClient(server.address) as client:
        client.set_balance(user, 3)


def assert_charged_denied_and_streamed(said: Any, user: str, denied: str) -> None:
    """What the programs in tests/peers print; each language names codes its own way."""
    transaction = said["charge"]["transaction"]
    assert (transaction["amount"], transaction["feature"]) == ("-2", "full_distribution")
    denial = said["denial"]
    assert (denial["code"], denial["reason"]) == (denied, "INSUFFICIENT_TOKENS")
    assert denial["domain"] == "entitlements"
    del denial["metadata"]["transaction_id"]
    assert denial["metadata"] == {
        "user_id": user,
        "feature": "full_distribution",
        "required": "2",
        "available": "1",
        "recorded": "true",
    }
    assert said["health"] == "SERVING"


def test_grpcurl(server: ServerProcess) -> None:
    grpcurl = (tool("grpcurl"), "-plaintext")
    give(server, "grpcurl")
    charge = ("-d", '{"user_id": "grpcurl", "feature": "full_distribution"}')
    paid = printed(*grpcurl, *charge, server.address, CONSUME)
    assert paid["transaction"]["amount"] == "-2"
    denied = run(*grpcurl, "-format-error", *charge, server.address, CONSUME)
    [info] = json.loads(denied.stderr)["details"]
    assert (info["reason"], info["domain"]) == ("INSUFFICIENT_TOKENS", "entitlements")
    assert (info["metadata"]["required"], info["metadata"]["available"]) == ("2", "1")
    with subprocess.Popen(
        [*grpcurl, server.address, WATCH], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        assert "SERVING" in "".join(watch.stdout.readline() for _ in range(3))
        watch.kill()


def test_ghz(server: ServerProcess) -> None:
    """It reports codes and messages; details it does not read. Reflection is a stream as well."""
    ghz = (tool("ghz"), "--insecure", "--format=json", "--total=1", "--concurrency=1")
    give(server, "ghz")
    charge = ("-d", '{"user_id": "ghz", "feature": "full_distribution"}', "--call", CONSUME)
    assert printed(*ghz, *charge, server.address)["statusCodeDistribution"] == {"OK": 1}
    denied = printed(*ghz, *charge, server.address)
    assert denied["statusCodeDistribution"] == {"FailedPrecondition": 1}
    [message] = denied["errorDistribution"]
    assert "'ghz' has 1" in message
    with EntitlementClient(server.address) as client:
        assert client.get_account("ghz").balance == 1
    watch = printed(*ghz, "--stream-call-count=1", "--call", WATCH, server.address)
    assert watch["statusCodeDistribution"] == {"Canceled": 1}  # By ghz, after one message.


@pytest.fixture(scope="module")
def go_peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in tests/peers/go. Go keeps what it compiled, so only the first time is slow."""

    def build(folder: Path) -> None:
        built = run(
            tool("go"), "build", "-mod=readonly", "-o", folder / "peer", ".", cwd=PEERS / "go"
        )
        assert built.returncode == 0, built.stderr

    return once(tmp_path_factory, "go-peer", build) / "peer"


def test_grpc_go(server: ServerProcess, go_peer: Path, tmp_path: Path) -> None:
    contract = tmp_path / "contract.binpb"
    compiled = run(
        *(sys.executable, "-m", "grpc_tools.protoc"),
        *(f"--proto_path={folder}" for folder in PROTO_FOLDERS),
        *("--include_imports", f"--descriptor_set_out={contract}"),
        "entitlements/v1/entitlement_service.proto",
    )
    assert compiled.returncode == 0, compiled.stderr
    said = printed(go_peer, "calls", server.address, contract)
    assert_charged_denied_and_streamed(said, "go", "FailedPrecondition")


@pytest.fixture(scope="module")
def node_peer() -> Path:
    """The program in tests/peers/node, with its packages beside it."""
    npm, folder = tool("npm"), PEERS / "node"
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with lock.open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            done = run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
            assert done.returncode == 0, done.stderr
    return folder / "peer.js"


def test_grpc_js(server: ServerProcess, node_peer: Path) -> None:
    said = printed(tool("node"), node_peer, server.address, *PROTO_FOLDERS)
    assert_charged_denied_and_streamed(said, "node", "FAILED_PRECONDITION")


@pytest.fixture
def nginx(server: ServerProcess, unused_tcp_port: int, tmp_path: Path) -> Iterator[str]:
    """The address of an nginx that passes everything on to the server."""
    places = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {places}"
        f"server {{ listen 127.0.0.1:{unused_tcp_port} http2;"
        f"location / {{ grpc_pass grpc://{server.address}; }} }} }}"
    )
    command = [_nginx(), "-p", str(tmp_path), "-e", "stderr", "-c", str(configuration)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_for_port(unused_tcp_port, process)
            yield f"127.0.0.1:{unused_tcp_port}"
        finally:
            process.kill()


def _nginx() -> str:
    return shutil.which("nginx", path="/usr/sbin") or tool("nginx")


def _wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    process.kill()
    raise AssertionError(f"nginx did not start: {process.communicate()[1]}")


def test_nginx_in_front(nginx: str) -> None:
    with EntitlementClient(nginx) as client:
        client.set_balance("nginx", 3)
        assert client.consume("nginx", FeatureTier.FULL_DISTRIBUTION).amount == -2
        with pytest.raises(AccessDeniedError) as denied:
            client.consume("nginx", FeatureTier.FULL_DISTRIBUTION)
        assert denied.value.reason == "INSUFFICIENT_TOKENS"
        assert (denied.value.required, denied.value.available) == (2, 1)
    with grpc.insecure_channel(nginx) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICE)
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def ping(connection: Http2Connection, count: int, every_s: float) -> bool:
    """Send pings and wait for the answer to each; whether the server closed the connection meanwhile."""
    for number in range(count):
        mine = Frame(PING, 0, number.to_bytes(8, "big"))
        connection.send(mine)
        while (frame := connection.receive()) != Frame(PING, ACK, mine.payload):
            if frame is None or frame.kind == GOAWAY:
                return True
        # Not a wait for something to happen: the pace is what the test is about. It counts from the
        # answer, for a busy server may have taken this ping late and would take the next one soon after.
        time.sleep(every_s)
    return False


def test_an_idle_caller_may_ping_every_second(server: ServerProcess) -> None:
    """Without any call; more pings than the strikes that gRPC allows."""
    with Http2Connection.to(server.address) as connection:
        assert not ping(connection, 5, PINGS_EVERY_S)


def test_a_client_that_pings_without_a_pause_gets_too_many_pings(server: ServerProcess) -> None:
    with Http2Connection.to(server.address) as connection:
        assert ping(connection, 20, 0)


@pytest.mark.skipif("CI" not in os.environ, reason="takes 45 seconds; set CI to run it")
def test_grpc_go_may_ping_an_idle_connection_as_often_as_it_can(
    server: ServerProcess, go_peer: Path
) -> None:
    """Every ten seconds, four times."""
    assert printed(go_peer, "idle", server.address, "45")["states"] == ["CONNECTING", "READY"]
