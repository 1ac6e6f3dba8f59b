"""Certificates and callers replaced while serving."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.certificates import Authority, ServerFiles
from support.configuration import bearer, callers
from support.server_process import ServerProcess, served
from support.waiting import PATIENCE_S, until


async def test_certificates_are_rotated_under_load_without_a_failed_call(tmp_path: Path) -> None:
    """New connections get the new one; broken and expired ones leave it in force and say so."""
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    tls = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    with ServerProcess(*tls, listen="localhost:0") as server:
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
            await server.reload("The new certificate is in use.")
            assert await shown(server.address) == fresh
            await more()
        for spoil in (
            lambda: files.certificate.write_bytes(b"no certificate"),
            lambda: files.key.write_bytes(authority.issue("localhost")[1]),
            files.key.unlink,
            lambda: files.renew(valid=timedelta(days=-1)),
        ):
            spoil()
            await server.reload("The new certificate was rejected")
            assert await shown(server.address) == fresh
            await more()
        stopped.set()
        await asyncio.gather(*loads)
        assert "PRIVATE KEY" not in server.log


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
    async with served("--config", str(config)) as (server, channel):
        stub = EntitlementServiceStub(channel)
        request = pb.TopUpRequest(user_id="ada", amount=1)

        async def codes(*tokens: str) -> list[grpc.StatusCode]:
            return [await stub.TopUp(request, metadata=bearer(one)).code() for one in tokens]

        ok, unknown = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
        assert await codes("one", "two") == [ok, unknown]
        config.write_text(callers(("web", "funder", "two")))
        await server.reload("The callers were reloaded.")
        assert await codes("one", "two") == [unknown, ok]
        for broken in ("[[callers", '[[callers]]\nname = "web"\n', ""):
            config.write_text(broken)
            await server.reload("The new callers were rejected")
            assert await codes("one", "two") == [unknown, ok]
