"""Calls that lose their connection: it is reset under them, as when a client's machine goes away."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc

METHOD = "/entitlements.v1.EntitlementService/Consume"


async def cut(address: str, requests: Sequence[bytes], after_s: float) -> int:
    """Make calls over one connection and reset it.

    Args:
        address: Of the server, as HOST:PORT.
        requests: Serialized, a call each.
        after_s: How long after the calls have gone out.

    Returns:
        How many had no answer by then.
    """
    relay = _Relay(address)
    listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        consume: Any = channel.unary_unary(METHOD)
        relay.passed.clear()
        calls = [consume(request) for request in requests]
        codes = asyncio.gather(*(call.code() for call in calls))
        await relay.passed.wait()
        await asyncio.sleep(after_s)
        listener.close()
        relay.reset()
        return sum(code is not grpc.StatusCode.OK for code in await codes)


class _Relay:
    """Passes bytes between one client and the server.

    Attributes:
        passed: Set when the client has sent something.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rpartition(":")
        self._writers: list[asyncio.StreamWriter] = []
        self.passed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._address
        there, thence = await asyncio.open_connection(host, int(port))
        self._writers += (writer, thence)
        await asyncio.gather(self._pass(reader, thence, self.passed), self._pass(there, writer))

    def reset(self) -> None:
        """Drop the connections without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passed: asyncio.Event | None = None,
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                if passed is not None:
                    passed.set()
