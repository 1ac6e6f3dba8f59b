"""A method of the server: who may call it, which limit it counts against, and what serves it."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from msgspec import Struct

from entitlements_server.api.admission import Kind
from entitlements_server.api.rate_limit import Bucket
from entitlements_server.config.callers import Role
from entitlements_server.ledger.commands import Command
from entitlements_server.stores.interface import CommandResult


class Call(Protocol):
    """What an RPC knows about its call."""

    @property
    def caller(self) -> str:
        """The name of the authenticated caller, or empty."""

    @property
    def bucket(self) -> Bucket | None:
        """The bucket that counts the caller's calls, if it has a rate."""


class Write(Struct, frozen=True):
    """Commands to commit in one group, and how to answer once they are durable.

    Attributes:
        commands: At least one.
        respond: Makes the response from their outcomes, or raises the error to answer with.
    """

    commands: Sequence[Command]
    respond: Callable[[Sequence[CommandResult]], Message]


Result = Message | Write | Coroutine[Any, Any, Message]
"""The result of serving a request: a response, a write, or a coroutine for the event loop."""

Serve = Callable[[bytes, Call], Result]
"""Parses and serves a request on the transport's thread. Must not block."""


class Stream(Protocol):
    """Serves a streaming call. An exception of a method ends the call with that error."""

    def received(self, message: bytes) -> None:
        """Handle a message that was asked for."""

    def half_closed(self) -> None:
        """There is no further message."""

    def sent(self) -> None:
        """The last message was sent. The next one may follow."""

    def ended(self) -> None:
        """The call is over."""


class StreamCall(Protocol):
    """A call as its stream sees it: see transport.interface.IncomingCall."""

    def receive(self) -> None:
        """Ask for the next message."""

    def send(self, message: bytes) -> None:
        """Send a message. Wait for `Stream.sent` before sending the next."""

    def finish(self) -> None:
        """End the call with OK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method of the server. It has either `serve` or, if it streams, `stream`.

    Attributes:
        method: Such as `package.Service/Method`.
        role: The role that it requires; None: any caller may call it.
        open: Whether unauthenticated clients may call it.
        kind: Which limit its calls count against.
        serve: Serves a request.
        stream: Begins to serve a streaming call.
    """

    method: str
    role: Role | None = None
    open: bool = False
    kind: Kind = Kind.WORK
    serve: Serve | None = None
    stream: Callable[[StreamCall], Stream] | None = None
