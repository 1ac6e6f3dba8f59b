"""What both transports promise to those who stand on them."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest

from entitlements_server.transport.address import ListenError
from entitlements_server.transport.factory import open_transport
from entitlements_server.transport.options import Limits
from entitlements_server.transport.tls import ReloadableCertificate, TlsFiles
from support.certificates import Authority, ServerFiles
from support.echo import WRONG, Echo, echoing
from support.rpc import raw, raw_streams
from support.waiting import until

APART = (("grpc.use_local_subchannel_pool", 1),)


async def test_a_call_brings_what_it_was_sent_with_and_gets_its_answer(transport: str) -> None:
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        began = time.monotonic()
        call = raw(channel, "/echo")(
            b"hello", metadata=(("x-one", "1"), ("x-two-bin", b"\xff\x00")), timeout=60
        )
        assert await call == b"hello"
        (session,) = echo.sessions
        await session.over.wait()
        assert session.events == ["received", "ended"]
        assert session.call.path == "/echo"
        assert ("x-one", "1") in session.call.metadata
        assert ("x-two-bin", b"\xff\x00") in session.call.metadata
        assert session.call.deadline_s is not None
        assert 50 < session.call.deadline_s - began < 70
        assert echo.peers[0].startswith("ipv4:127.0.0.1:")


async def test_a_call_without_a_deadline_has_none(transport: str) -> None:
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await raw(channel, "/echo")(b"")
        assert echo.sessions[0].call.deadline_s is None


@pytest.mark.parametrize("path", ["/fail", "/rejected"])
async def test_a_failure_carries_its_code_its_text_and_its_trailers(
    transport: str, path: str
) -> None:
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = raw(channel, path)(b"x")
        assert await call.code() is WRONG.code
        assert await call.details() == WRONG.message
        assert dict(await call.trailing_metadata())["x-note"] == "seen"
        await echo.sessions[0].over.wait()
        assert echo.sessions[0].events[-1] == "ended"


async def test_a_call_is_answered_once(transport: str) -> None:
    """And what is answered again neither reaches the caller nor harms the server."""
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for _ in range(3):
            assert await raw(channel, "/twice")(b"once") == b"once"
        for session in echo.sessions:
            await session.over.wait()
            assert session.events.count("ended") == 1


async def test_messages_of_a_stream_go_back_and_forth_until_the_caller_is_done(
    transport: str,
) -> None:
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = raw_streams(channel, "/stream")()
        for message in (b"one", b"two", b"three"):
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await echo.sessions[0].over.wait()
        assert echo.sessions[0].events.count("received") == 3


def received(echo: Echo) -> int:
    """How many calls have brought their request."""
    return sum("received" in one.events for one in echo.sessions)


async def test_a_call_that_is_given_up_is_reported_as_over(transport: str) -> None:
    async with (
        echoing(transport) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        given_up = raw(channel, "/never")(b"")
        await until(lambda: received(echo) == 1)
        # On a busy machine a deadline may pass on the way.
        while received(echo) == 1:
            late = raw(channel, "/never")(b"", timeout=0.2)
            assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        given_up.cancel()
        await asyncio.gather(*(session.over.wait() for session in echo.sessions))
        # Answering it now is harmless.
        echo.sessions[-1].call.reply(b"too late")
        assert await raw(channel, "/echo")(b"on") == b"on"


async def test_a_session_that_raises_does_not_end_the_service(transport: str) -> None:
    async with (
        echoing(transport) as (server, _),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        broken = raw(channel, "/broken")(b"", timeout=1)
        assert await broken.code() is not grpc.StatusCode.OK
        assert await raw(channel, "/echo")(b"on") == b"on"


async def test_a_client_may_compress_and_is_answered_plainly(transport: str) -> None:
    async with (
        echoing(transport) as (server, _),
        grpc.aio.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel,
    ):
        assert await raw(channel, "/echo")(b"x" * 100_000) == b"x" * 100_000


async def test_connections_beyond_the_limit_are_closed(transport: str) -> None:
    async with echoing(transport, max_connections=2) as (server, _):
        channels = [grpc.aio.insecure_channel(server.address, APART) for _ in range(3)]
        codes = [await raw(one, "/echo")(b"", timeout=10).code() for one in channels]
        assert codes == [grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
        await channels[0].close()
        # There is room again.
        call = raw(channels[2], "/echo")
        while await call(b"", timeout=10, wait_for_ready=True).code() is not grpc.StatusCode.OK:
            pass
        for channel in channels[1:]:
            await channel.close()


async def test_an_address_that_is_taken_is_refused_with_a_sentence(transport: str) -> None:
    async with echoing(transport) as (server, _):
        with pytest.raises(ListenError, match="choose another address with --listen"):
            await open_transport(
                transport,  # type: ignore[arg-type]
                Echo(),
                server.address,
                None,
                Limits(),
            )


async def test_tls_shows_the_peers_certificate_and_follows_a_reload(
    transport: str, tmp_path: Path
) -> None:
    authority = Authority()
    files = ServerFiles(tmp_path, authority)
    certificate = ReloadableCertificate(TlsFiles(files.certificate, files.key, files.client_ca))
    client, key = authority.issue("web", "spiffe://example.org/web")
    credentials = grpc.ssl_channel_credentials(authority.pem, key, client)
    async with echoing(transport, certificate.credentials(), "localhost:0") as (server, echo):
        async with grpc.aio.secure_channel(server.address, credentials, APART) as channel:
            assert await raw(channel, "/echo")(b"") == b""
        names = echo.contexts[0]["x509_subject_alternative_name"]
        assert list(names) == [b"spiffe://example.org/web"]
        assert list(echo.contexts[0]["x509_common_name"]) == [b"web"]


async def test_stopping_waits_for_calls_that_have_begun_and_no_longer(transport: str) -> None:
    echo = Echo()
    server = await open_transport(
        transport,  # type: ignore[arg-type]
        echo,
        "localhost:0",
        None,
        Limits(),
    )
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = raw(channel, "/never")(b"")
        waiting = asyncio.ensure_future(call.code())
        await until(lambda: any("received" in one.events for one in echo.sessions))
        stopping = asyncio.ensure_future(server.stop(60))
        done, _ = await asyncio.wait((stopping,), timeout=0.3)
        assert not done
        echo.sessions[0].call.reply(b"finished")
        assert await call == b"finished"
        assert await waiting is grpc.StatusCode.OK
        began = time.monotonic()
        await stopping
        assert time.monotonic() - began < 5
