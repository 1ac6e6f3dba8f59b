"""What the server exposes, and to whom: where it listens, and what a stranger can do to it."""

import asyncio
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.certificates import Authority, ServerFiles
from support.configuration import callers
from support.server_process import ServerProcess, run, served
from support.waiting import PATIENCE_S


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
    assert "without TLS" in with_callers.stderr
    assert "without callers" not in with_callers.stderr
    tls = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    with_tls = run("serve", "--listen", "0.0.0.0:0", *tls)
    assert "without callers" in with_tls.stderr
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
        with ServerProcess(*options, listen="0.0.0.0:0") as server:
            assert server.address.startswith("0.0.0.0:")
            server.stop()


async def test_a_request_that_is_no_utf8_is_answered_like_any_unknown_method() -> None:
    async with served() as (server, channel):
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(http2_request(b"/\xff\xfe/x"))
        await writer.drain()
        answer = b""
        while b"no such method" not in answer:
            data = await asyncio.wait_for(reader.read(65536), PATIENCE_S)
            assert data
            answer += data
        writer.close()
        health = health_pb2_grpc.HealthStub(channel)
        reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
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
