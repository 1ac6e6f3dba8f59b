"""What is answered and logged: enough to find things out, and never a secret."""

import asyncio
import json
import sys
from pathlib import Path

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.configuration import bearer, callers
from support.rpc import raw
from support.server_process import run, served


async def test_no_token_and_no_password_gets_out(tmp_path: Path) -> None:
    """Not in a log line of any level, a metric, an error, nor in what is printed."""
    token = "ent_" + "PlantedToken" * 3
    password = "hunter2planted"
    config = tmp_path / "server.toml"
    config.write_text(callers(("web", "funder", token)))
    url = f"redis://user:{password}@127.0.0.1:1/0?x=1"
    options = ("--log-level", "debug", "--log-calls", "--metrics-listen", "127.0.0.1:0")
    told = ""
    async with served("--config", str(config), *options) as (server, channel):
        for metadata in (bearer(token), bearer(token + "x"), (("authorization", token),)):
            for path in ("/entitlements.v1.EntitlementService/TopUp", "/x", f"/{token}"):
                for request in (b"", b"\xff", pb.TopUpRequest(user_id="a").SerializeToString()):
                    call = raw(channel, path)(request, metadata=metadata)
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


async def test_the_id_made_up_for_a_failed_call_is_in_its_log_line() -> None:
    async with served("--log-format", "json", "--log-calls") as (server, channel):
        path = "/entitlements.v1.EntitlementService/TopUp"
        trailers = await raw(channel, path)(b"").trailing_metadata()
        server.stop()
        lines = [json.loads(line) for line in server.log.splitlines()]
    (line,) = [line for line in lines if line["event"] == "A call ended."]
    assert line["request_id"] == trailers["x-request-id"] != ""


async def test_log_lines_are_json_and_carry_the_request_id() -> None:
    async with served("--log-format", "json", "--log-calls") as (server, channel):
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
    assert "The server has started." in [line["event"] for line in lines]
