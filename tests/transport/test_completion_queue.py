"""What only the completion queue promises: bounds on what strangers leave open, and a fallback."""

import asyncio
import time
from functools import partial
from typing import Literal

import grpc
import pytest
from structlog.testing import capture_logs

from entitlements_server.transport import completion_queue, factory
from entitlements_server.transport.options import Limits
from support.echo import Echo, echoing
from support.rpc import raw, raw_streams
from support.waiting import until

KIND: Literal["completion-queue"] = "completion-queue"
NO_WINDOW = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
"""A client that grants hardly any window to streams that it does not read."""


@pytest.fixture
def transport() -> str:
    """Of this transport alone."""
    return KIND


async def test_a_request_that_does_not_come_is_given_up() -> None:
    async with (
        echoing(KIND, request_timeout_s=0.2) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = raw_streams(channel, "/echo")()
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert echo.sessions[0].events[0] == "overdue"
        await echo.sessions[0].over.wait()


async def test_a_request_that_does_not_come_is_given_up_beside_steady_traffic() -> None:
    """What is done from time to time does not wait for a moment of silence."""
    async with (
        echoing(KIND, request_timeout_s=0.2) as (server, _),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        silent = raw_streams(channel, "/echo")()
        ended = asyncio.ensure_future(silent.code())
        for _ in range(60):
            await raw(channel, "/echo")(b"on")
            # The gaps are the condition: traffic too thin for a count of events, too steady for silence.
            await asyncio.wait((ended,), timeout=0.05)
        assert ended.done()
        assert await ended is grpc.StatusCode.NOT_FOUND


async def test_a_call_whose_request_comes_as_the_server_stops_is_served_or_ended_never_both() -> (
    None
):
    """A caller whose answer says that nothing was done must be able to rely on it."""
    for _ in range(5):
        async with (
            echoing(KIND) as (server, echo),
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            calls = [raw(channel, "/echo")(b"x") for _ in range(300)]
            codes = asyncio.gather(*(call.code() for call in calls))
            await until(lambda: len(echo.sessions) > 20)
            await server.stop(5)
            await codes
            for session in echo.sessions:
                assert not {"received", "overdue"} <= set(session.events)


async def test_of_too_many_requests_that_do_not_come_the_oldest_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completion_queue, "MAX_UNREAD", 3)
    async with (
        echoing(KIND, request_timeout_s=3600) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        calls = []

        def came(number: int) -> bool:
            return len(echo.sessions) > number

        for number in range(5):
            calls.append(raw_streams(channel, "/echo")())
            await until(partial(came, number))
        for call in calls[:2]:
            assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert await raw(channel, "/echo")(b"on") == b"on"
        for call in calls[3:]:
            assert not call.done()
            call.cancel()


async def test_a_call_that_ends_without_its_request_is_answered() -> None:
    async with (
        echoing(KIND) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = raw_streams(channel, "/echo")()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert echo.sessions[0].events[0] == "half-closed"


async def test_a_request_that_is_too_large_ends_and_leaves_nothing() -> None:
    async with (
        echoing(KIND) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = raw(channel, "/echo")(bytes(2**21))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await echo.sessions[0].over.wait()
        assert "received" not in echo.sessions[0].events
        assert not server.unread  # type: ignore[attr-defined]


async def test_answers_that_are_not_read_fill_the_room_of_their_connection_and_no_other() -> None:
    async with (
        echoing(KIND, max_unsent_bytes=2**30, max_unsent_bytes_per_connection=3 * 2**20) as (
            server,
            echo,
        ),
        grpc.aio.insecure_channel(
            server.address,
            NO_WINDOW,
        ) as silent,
    ):
        calls = [raw_streams(silent, "/large")() for _ in range(4)]
        for call in calls:
            await call.write(b"")
        await until(lambda: sum("received" in one.events for one in echo.sessions) == 4)
        assert not echo.sessions[0].call.has_room(2**20)
        async with grpc.aio.insecure_channel(server.address) as other:
            assert await raw(other, "/echo")(b"on") == b"on"
            assert echo.sessions[-1].call.has_room(2**20)
        for call in calls:
            call.cancel()
        for session in echo.sessions:
            await session.over.wait()
        assert not server.unsent._all  # type: ignore[attr-defined]


async def test_stopping_ends_what_would_last_for_ever_at_once() -> None:
    echo = Echo()
    server = await factory.open_transport(KIND, echo, "localhost:0", None, Limits())
    async with grpc.aio.insecure_channel(server.address) as channel:
        unread = raw_streams(channel, "/echo")()
        await until(lambda: bool(echo.sessions))
        began = time.monotonic()
        await server.stop(60)
        assert time.monotonic() - began < 5
        assert await unread.code() is grpc.StatusCode.NOT_FOUND


async def test_stopping_does_not_wait_long_for_those_who_do_not_read_their_answers() -> None:
    echo = Echo()
    server = await factory.open_transport(KIND, echo, "localhost:0", None, Limits())
    async with grpc.aio.insecure_channel(server.address, NO_WINDOW) as silent:
        call = raw_streams(silent, "/large")()
        await call.write(b"")
        await until(lambda: any("received" in one.events for one in echo.sessions))
        began = time.monotonic()
        await server.stop(60)
        assert time.monotonic() - began < 10
        call.cancel()


async def test_where_grpc_cannot_be_driven_by_its_queue_threads_serve_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check(_: object) -> None:
        raise AttributeError("start_server_batch")

    monkeypatch.setattr(factory, "check", check)
    with capture_logs() as lines:
        async with (
            echoing(KIND) as (server, _),
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            assert server.name == "threads"
            assert await raw(channel, "/echo")(b"on") == b"on"
    assert any("a third of the rate" in line["event"] for line in lines)


async def test_memory_does_not_grow_with_calls() -> None:
    """Of every kind: answered, failed, rejected, given up."""
    async with (
        echoing(KIND) as (server, echo),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for path in ("/echo", "/fail", "/rejected", "/twice"):
            await asyncio.gather(
                *(raw(channel, path)(b"x").code() for _ in range(50)), return_exceptions=True
            )
        given_up = [raw(channel, "/never")(b"x") for _ in range(50)]
        await until(lambda: sum("received" in one.events for one in echo.sessions) == 200)
        for call in given_up:
            call.cancel()
        for session in echo.sessions:
            await session.over.wait()
        assert all(session.call._call is None for session in echo.sessions)  # type: ignore[attr-defined]
        assert not server.unread  # type: ignore[attr-defined]
        assert not server.begun  # type: ignore[attr-defined]
