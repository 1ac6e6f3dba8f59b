"""The server as those who run it see it: refusals to start, reloads, secrets, tools for the data."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.certificates import Authority, ServerFiles
from support.processes import command

PATIENCE_S = 30


class Served:
    """A server whose log is kept in a file, so that nothing waits for it to be read."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.log_file = folder / "log"
        self._log = self.log_file.open("wb")
        self.process = subprocess.Popen(
            [command("entitlements-server"), "serve", "--listen", "localhost:0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self.process.stdout is not None
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Try: "):
                break
        else:
            raise AssertionError(f"The server did not start: {self.log}")
        self.address = self._said(r"Listening on (\S+)")

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found
        return found[1]

    @property
    def metrics_url(self) -> str:
        return self._said(r"Metrics on (\S+)")

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8")

    async def reload(self, event: str) -> None:
        """Send SIGHUP and wait until the log tells of `event` once more."""
        seen = self.log.count(event)
        self.process.send_signal(signal.SIGHUP)
        await until(lambda: self.log.count(event) > seen)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()


@asynccontextmanager
async def served(folder: Path, *options: str, **environment: str) -> AsyncIterator[Served]:
    server = Served(folder, *options, **environment)
    try:
        yield server
    finally:
        server.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # a file of another process sends no events
            await asyncio.sleep(0.01)


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("entitlements-server"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def callers(*entries: tuple[str, str, str]) -> str:
    """A configuration file of callers: name, role and token of each."""
    return "\n".join(
        f'[[callers]]\nname = "{name}"\nroles = ["{role}"]\n'
        f'token_sha256 = "{sha256(token.encode()).hexdigest()}"\n'
        for name, role, token in entries
    )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "example.org"])
def test_without_tls_and_callers_it_listens_on_loopback_only(host: str) -> None:
    refused = run("serve", "--listen", f"{host}:0")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    for what in ("--tls-certificate", "--tls-key", "[[callers]]", "127.0.0.1", "--insecure"):
        assert what in refused.stderr


def test_one_of_tls_and_callers_is_not_enough(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path, Authority())
    config = tmp_path / "server.toml"
    config.write_text(callers(("web", "charger", "t")))
    with_callers = run("serve", "--listen", "0.0.0.0:0", "--config", str(config))
    assert "there is no TLS" in with_callers.stderr
    assert "no callers" not in with_callers.stderr
    tls = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    with_tls = run("serve", "--listen", "0.0.0.0:0", *tls)
    assert "there is no callers" in with_tls.stderr
    half = run("serve", "--tls-certificate", str(files.certificate))
    assert "both --tls-certificate and --tls-key" in half.stderr
    assert {with_callers.returncode, with_tls.returncode, half.returncode} == {1}


async def test_with_both_or_when_it_is_meant_it_listens_anywhere(tmp_path: Path) -> None:
    files = ServerFiles(tmp_path, Authority())
    config = tmp_path / "server.toml"
    config.write_text(
        f'listen = "0.0.0.0:0"\ntls_certificate = "{files.certificate}"\n'
        f'tls_key = "{files.key}"\n' + callers(("web", "charger", "t"))
    )
    for options in (("--config", str(config)), ("--insecure",)):
        async with served(tmp_path, *options, "--listen", "0.0.0.0:0") as server:
            assert server.address.startswith("0.0.0.0:")
            server.stop()


async def test_certificates_are_rotated_under_load_without_a_failed_call(tmp_path: Path) -> None:
    """New connections get the new one; broken and expired ones leave it in force and say so."""
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    tls = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    async with served(tmp_path, *tls) as server:
        trusted = grpc.ssl_channel_credentials(authority.pem)
        stopped = asyncio.Event()
        calls = 0

        async def load(*, anew: bool) -> None:
            """Call on and on, on one connection or on a new one each time."""
            nonlocal calls
            while not stopped.is_set():
                options = (("grpc.use_local_subchannel_pool", 1),)
                async with grpc.aio.secure_channel(
                    server.address, trusted, options=options
                ) as channel:
                    stub = EntitlementServiceStub(channel)
                    while True:
                        request = pb.TopUpRequest(user_id="ada", amount=1)
                        await stub.TopUp(request, timeout=PATIENCE_S)
                        calls += 1
                        if anew or stopped.is_set():
                            break

        loads = [asyncio.create_task(load(anew=number % 2 == 0)) for number in range(4)]

        async def more() -> None:
            goal = calls + 50
            await until(lambda: calls >= goal or any(task.done() for task in loads))

        await more()
        for _ in range(3):
            fresh = files.renew()
            await server.reload("A new certificate is in force.")
            assert await shown(server.address) == fresh
            await more()
        for spoil in (
            lambda: files.certificate.write_bytes(b"no certificate"),
            lambda: files.key.write_bytes(authority.issue("localhost")[1]),
            files.key.unlink,
            lambda: files.renew(valid=timedelta(days=-1)),
        ):
            spoil()
            await server.reload("The new certificate was not taken")
            assert await shown(server.address) == fresh
            await more()
        stopped.set()
        await asyncio.gather(*loads)
        assert b"PRIVATE KEY" not in server.log_file.read_bytes()


async def shown(address: str) -> bytes:
    """The certificate that a server shows to a new connection."""
    host, _, port = address.rpartition(":")
    program = (
        "import ssl, sys;"
        "print(ssl.get_server_certificate((sys.argv[1], int(sys.argv[2])), timeout=30), end='')"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, host, port, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output


async def test_sighup_takes_new_callers_and_a_broken_file_leaves_the_old(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(callers(("web", "funder", "one")))
    async with (
        served(tmp_path, "--config", str(config)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        request = pb.TopUpRequest(user_id="ada", amount=1)

        async def codes(*tokens: str) -> list[grpc.StatusCode]:
            return [await code_of(stub.TopUp(request, metadata=bearer(one))) for one in tokens]

        ok, unknown = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
        assert await codes("one", "two") == [ok, unknown]
        config.write_text(callers(("web", "funder", "two")))
        await server.reload("The callers were read again.")
        assert await codes("one", "two") == [unknown, ok]
        for broken in ("[[callers", '[[callers]]\nname = "web"\n', ""):
            config.write_text(broken)
            await server.reload("The new callers were not taken")
            assert await codes("one", "two") == [unknown, ok]


async def test_no_token_and_no_password_gets_out(tmp_path: Path) -> None:
    """Not in a log line of any level, a metric, an error, nor in what is printed."""
    token = "ent_" + "PlantedToken" * 3
    password = "hunter2planted"
    config = tmp_path / "server.toml"
    config.write_text(callers(("web", "funder", token)))
    url = f"redis://user:{password}@127.0.0.1:1/0?x=1"
    options = ("--log-level", "debug", "--log-calls", "--metrics-listen", "127.0.0.1:0")
    told = ""
    async with (
        served(tmp_path, "--config", str(config), *options) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for metadata in (bearer(token), bearer(token + "x"), (("authorization", token),)):
            for path in ("/entitlements.v1.EntitlementService/TopUp", "/x", f"/{token}"):
                for request in (b"", b"\xff", pb.TopUpRequest(user_id="a").SerializeToString()):
                    call = channel.unary_unary(path)(request, metadata=metadata)
                    told += f"{await call.code()} {await call.details()}"
                    told += str(await call.trailing_metadata())
        told += await get(server.metrics_url)
        server.stop()
        told += server.output + server.log
    for words in (("serve",), ("config",), ("backup", "x")):
        answer = run(*words, ENTITLEMENTS_STORE=url)
        told += answer.stdout + answer.stderr
    assert "A call ended." in told
    assert "UNAUTHENTICATED" in told
    assert token not in told
    assert password not in told


async def get(url: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).read().decode())",
        url,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return output.decode()


async def test_a_request_that_is_no_utf8_does_not_silence_the_server(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        host, _, port = server.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(http2_request(b"/\xff\xfe/x"))
        await writer.drain()
        await until(lambda: "put up again" in server.log)
        writer.close()
        async with grpc.aio.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            answer = await health.Check(request, wait_for_ready=True, timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        server.stop()


def http2_request(path: bytes) -> bytes:
    """The first bytes of a connection that calls a path, whatever bytes it has."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        length = len(payload).to_bytes(3, "big")
        return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    headers = b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return preface + frame(4, 0, 0, b"") + frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5))


async def test_a_backup_under_load_holds_every_charge_acknowledged_before(tmp_path: Path) -> None:
    """And its copy verifies, serves, and no half of one is ever under its name."""
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    copy = tmp_path / "copy" / "ledger.sqlite"
    copy.parent.mkdir()
    async with (
        served(tmp_path, "--store", url) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        await stub.SetBalance(pb.SetBalanceRequest(user_id="ada", balance=10**9))
        acknowledged: list[str] = []
        stopped = asyncio.Event()

        async def load(worker: int) -> None:
            number = 0
            while not stopped.is_set():
                key = f"{worker}-{number}"
                request = pb.ConsumeRequest(
                    user_id="ada", feature="full_distribution", idempotency_key=key
                )
                await stub.Consume(request)
                acknowledged.append(key)
                number += 1

        loads = [asyncio.create_task(load(worker)) for worker in range(32)]
        # Past the first generation, so that part of the ledger is in tables and part in the journal.
        await until(lambda: len(acknowledged) > 4500)
        before = set(acknowledged)
        backup = await asyncio.create_subprocess_exec(
            command("entitlements-server"), "backup", str(copy), "--store", url
        )
        assert await backup.wait() == 0
        at_least = len(acknowledged)
        await until(lambda: len(acknowledged) > at_least)
        stopped.set()
        await asyncio.gather(*loads)
        assert [file.name for file in copy.parent.iterdir()] == ["ledger.sqlite"]
        # The ledger that is being served is looked at as well: a copy of it.
        verified = run("verify", "--store", url)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "reading a copy" in verified.stderr
    restored = run("verify", "--store", f"sqlite://{copy}")
    assert restored.returncode == 0, restored.stdout
    async with (
        served(tmp_path, "--store", f"sqlite://{copy}") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        keys = list(before)
        for start in range(0, len(keys), 1000):
            batch = pb.BatchConsumeRequest(
                requests=[
                    pb.ConsumeRequest(
                        user_id="ada", feature="full_distribution", idempotency_key=key
                    )
                    for key in keys[start : start + 1000]
                ]
            )
            results = (await stub.BatchConsume(batch)).results
            assert all(result.response.replayed for result in results)


def test_config_prints_what_is_in_force_and_where_it_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    token = run("token", "new").stdout.strip()
    config.write_text(
        'log_format = "json"\nmax_queued = 5\nstore = "memory://"\ndrain_seconds = 7\n'
        + callers(("web", "charger", token))
    )
    printed = run(
        *("config", "--max-queued", "9"),
        ENTITLEMENTS_CONFIG=str(config),
        ENTITLEMENTS_STORE="redis://user:hunter2@db/0",
    ).stdout
    for line in (
        'log_format = "json"  # file',
        "max_queued = 9  # flag",
        'store = "redis://user:***@db/0"  # environment',
        "drain_seconds = 7.0  # file",
        'log_level = "info"  # default',
        "# catalogue is not set",
        'roles = ["charger"]',
    ):
        assert line in printed.splitlines()
    # It is TOML itself, and nothing in it is of use to a thief.
    assert tomllib.loads(printed)["callers"] == [{"name": "web", "roles": ["charger"]}]
    assert token not in printed
    assert sha256(token.encode()).hexdigest() not in printed
    assert "hunter2" not in printed


def test_token_new_prints_the_token_once_and_the_hash_to_store() -> None:
    made = run("token", "new")
    token = made.stdout.strip()
    assert token.startswith("ent_")
    assert sha256(token.encode()).hexdigest() in made.stderr
    assert token not in made.stderr


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("max_queued = 0", "'max_queued' in {file} is wrong"),
        ("max_qeued = 1", "'max_qeued', which is no setting"),
        ("max_queued = ", "is not valid TOML"),
        ('[[callers]]\nname = "web"', "caller number 1: 'roles' is missing"),
    ],
)
def test_a_wrong_configuration_file_is_one_sentence(
    tmp_path: Path, content: str, problem: str
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(content)
    refused = run("serve", "--config", str(file))
    assert refused.returncode == 1
    assert problem.format(file=file) in refused.stderr
    assert "Traceback" not in refused.stderr
    missing = run("serve", "--config", str(tmp_path / "nowhere.toml"))
    assert "cannot be read" in missing.stderr


async def test_log_lines_are_json_and_carry_the_request_id(tmp_path: Path) -> None:
    async with (
        served(tmp_path, "--log-format", "json", "--log-calls") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = EntitlementServiceStub(channel)
        await stub.TopUp(
            pb.TopUpRequest(user_id="ada", amount=1), metadata=(("x-request-id", "r-7"),)
        )
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines()]
    (line,) = [line for line in lines if line["event"] == "A call ended."]
    assert line["request_id"] == "r-7"
    assert line["code"] == "OK"
    assert line["method"] == "entitlements.v1.EntitlementService/TopUp"
    assert "ada" not in str(line)
    assert lines[0]["event"] == "The server has started."
