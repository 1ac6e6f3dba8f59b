"""A TCP proxy that breaks connections at a chosen moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on until a test says otherwise.

    Attributes:
        port: Where it listens.
        lose_replies: While this says so of what a client sent, the server gets it, and the
            connection breaks before the client gets the reply.
        hold: While this says so of what a client sent, the connection breaks at once, and the
            server gets it only when `release` is called.
        broken: Set as soon as a connection was broken.
        gate: While it is clear, new connections get no answer.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.lose_replies: Callable[[bytes], bool] = lambda _: False
        self.hold: Callable[[bytes], bool] = lambda _: False
        self.broken = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._held: list[tuple[asyncio.StreamWriter, asyncio.StreamReader, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def release(self) -> None:
        """Let the server have what was held back, and wait until it has executed it."""
        while self._held:
            writer, reader, sent = self._held.pop()
            writer.write(sent)
            assert await reader.read(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self.gate.wait()
        there, thence = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.append(thence)
        losing = False

        async def answer() -> None:
            while reply := await there.read(65536):
                if losing:
                    self.broken.set()
                    break
                writer.write(reply)
            writer.close()

        answering = asyncio.create_task(answer())
        with contextlib.suppress(ConnectionError):
            while sent := await reader.read(1 << 20):
                if self.hold(sent):
                    answering.cancel()
                    self._held.append((thence, there, sent))
                    self.broken.set()
                    break
                losing = self.lose_replies(sent)
                thence.write(sent)
            else:
                thence.close()
        writer.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a port of loopback while the block runs."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
