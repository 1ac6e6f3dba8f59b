"""A transport by itself: what takes its calls does what their paths say, and notes what it gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from entitlements_server.transport.factory import open_transport
from entitlements_server.transport.interface import CallStatus, IncomingCall, Transport
from entitlements_server.transport.options import Limits

WRONG = CallStatus(grpc.StatusCode.NOT_FOUND, "Größer als erwartet.", (("x-note", "seen"),))


@dataclass
class Session:
    """A call. Its path says what becomes of it:

    `/echo` replies with the request; `/large` with a megabyte; `/fail` fails; `/rejected` fails before
    its request is read; `/twice` replies, then fails; `/never` is left open; `/stream` sends each message back,
    one at a time; `/broken` raises, which no session may.
    """

    call: IncomingCall
    events: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def received(self, message: bytes) -> None:
        self.events.append("received")
        match self.call.path:
            case "/echo":
                self.call.reply(message)
            case "/large":
                self.call.reply(bytes(2**20))
            case "/fail":
                self.call.fail(WRONG)
            case "/twice":
                self.call.reply(message)
                self.call.fail(WRONG)
                self.call.reply(message)
            case "/stream":
                self.call.send(message)
            case "/broken":
                raise AssertionError("No session may raise.")

    def half_closed(self) -> None:
        self.events.append("half-closed")
        if self.call.path == "/stream":
            self.call.finish()
        else:
            self.call.fail(WRONG)

    def overdue(self) -> None:
        self.events.append("overdue")
        self.call.fail(WRONG)

    def sent(self) -> None:
        self.events.append("sent")
        self.call.receive()

    def ended(self) -> None:
        self.events.append("ended")
        self.loop.call_soon_threadsafe(self.over.set)


class Echo:
    """Takes calls; `sessions` has them in the order in which they came."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.loop = asyncio.get_running_loop()
        self.peers: list[str] = []
        self.contexts: list[Any] = []

    def begin(self, call: IncomingCall) -> Session:
        session = Session(call, loop=self.loop)
        self.sessions.append(session)
        self.peers.append(call.peer())
        self.contexts.append(dict(call.auth_context()))
        if call.path == "/rejected":
            call.fail(WRONG)
        return session


@asynccontextmanager
async def echoing(
    kind: Any,
    credentials: grpc.ServerCredentials | None = None,
    address: str = "127.0.0.1:0",
    **limits: Any,
) -> AsyncIterator[tuple[Transport, Echo]]:
    """A transport that serves an Echo while the block runs."""
    echo = Echo()
    transport = await open_transport(kind, echo, address, credentials, Limits(**limits))
    try:
        yield transport, echo
    finally:
        await transport.stop(1)
