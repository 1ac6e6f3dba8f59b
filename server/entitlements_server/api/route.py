"""What a method is to the server: who may call it, what it takes room of, and what serves it."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from msgspec import Struct

from entitlements_server.api.admission import Kind
from entitlements_server.api.rate_limit import Bucket
from entitlements_server.config.callers import Role
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome


class Call(Protocol):
    """What an RPC knows of its call."""

    @property
    def caller(self) -> str:
        """Name of the authenticated caller, or empty."""

    @property
    def bucket(self) -> Bucket | None:
        """Counts the caller's calls, if it has a rate."""


class Write(Struct, frozen=True):
    """Commands to be committed in one group, and what is answered once they are durable.

    Attributes:
        commands: At least one.
        respond: Makes the response of their outcomes, or raises what the call is answered with.
    """

    commands: Sequence[Command]
    respond: Callable[[Sequence[Outcome]], Message]


Result = Message | Write | Coroutine[Any, Any, Message]
"""What serving a request comes to: the response, a write, or what returns it on the event loop."""

Serve = Callable[[bytes, Call], Result]
"""Reads a request and serves it, on the transport's thread: it must not wait for anything."""


class Stream(Protocol):
    """Serves a call that streams. A method that raises ends the call with that error."""

    def received(self, message: bytes) -> None:
        """Take a message that was asked for."""

    def half_closed(self) -> None:
        """Take note that no further message comes."""

    def sent(self) -> None:
        """Take note that the last message has left: the next one may follow."""

    def ended(self) -> None:
        """Take note that the call is over."""


class StreamCall(Protocol):
    """The side of a call that its stream sees: see transport.interface.IncomingCall."""

    def receive(self) -> None:
        """Ask for the next message."""

    def send(self, message: bytes) -> None:
        """Send a message. The next one only after `Stream.sent`."""

    def finish(self) -> None:
        """End the call well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method that the server has: it has `serve`, or `stream` if it streams.

    Attributes:
        method: As in `package.Service/Method`.
        role: What a caller needs; None: being a caller is enough.
        open: Whether even those may call who are no callers.
        kind: What a call takes room of.
        serve: Serves a request.
        stream: Begins to serve a call that streams.
    """

    method: str
    role: Role | None = None
    open: bool = False
    kind: Kind = Kind.WORK
    serve: Serve | None = None
    stream: Callable[[StreamCall], Stream] | None = None
