"""The seam between a transport and the API: what a call is, and what takes calls.

A transport calls its `CallDispatcher` and the `CallHandler`s that it returns from one thread at a time, never
from the event loop. The methods of an `IncomingCall` may be called from any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

Metadata = Sequence[tuple[str, str | bytes]]
"""What a call or an answer carries beside its messages. Values are bytes where a key ends in `-bin`."""

FOREVER_S = 1e15
"""gRPC has 9.2e18 seconds for a call without a deadline."""

LARGE_MESSAGE_BYTES = 4096
"""From this size on a message counts against the bounds on bytes that are not sent yet.

Smaller ones are bounded by the number of calls in flight.
"""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a call that failed ends.

    Attributes:
        code: The status code, not OK.
        message: A sentence for the caller.
        trailers: Trailing metadata: printable ASCII, or bytes where the key ends in `-bin`.
    """

    code: grpc.StatusCode
    message: str
    trailers: Metadata = ()


class IncomingCall(Protocol):
    """A call, from its first header to its end.

    Of `reply`, `finish` and `fail` the first one called ends the call; later ones do nothing. On a call that
    has ended all of them do nothing.

    Attributes:
        path: As in `/package.Service/Method`; bytes that are no ASCII stand as Latin-1.
        metadata: What the call was sent with. Never logged: there may be a token in it.
        deadline_s: When its caller gives up, in seconds of `time.monotonic`; None: never.
    """

    path: str
    metadata: Metadata
    deadline_s: float | None

    def peer(self) -> str:
        """Return where the connection comes from, such as `ipv4:127.0.0.1:40122`."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return what gRPC has verified of the peer's certificate, by gRPC's names of properties."""

    def has_room(self, size: int = 0) -> bool:
        """Return whether `size` bytes more may wait to be sent, to this connection and in all."""

    def receive(self) -> None:
        """Ask for the next message of a stream. The first one is asked for by the transport."""

    def send(self, message: bytes) -> None:
        """Send one message of a stream. The next one only after `CallHandler.sent`."""

    def reply(self, message: bytes) -> None:
        """Send the only message and end the call well."""

    def finish(self) -> None:
        """End a stream well."""

    def fail(self, status: CallStatus) -> None:
        """End the call with an error."""


class CallHandler(Protocol):
    """Takes what happens to one call. No method raises."""

    def received(self, message: bytes) -> None:
        """Take a message that was asked for."""

    def half_closed(self) -> None:
        """Take note that no further message comes: `receive` was called for none."""

    def overdue(self) -> None:
        """Take note that the first message did not come in time: end the call."""

    def sent(self) -> None:
        """Take note that a message of a stream has left, as far as flow control goes."""

    def ended(self) -> None:
        """Take note that the call is over: its last byte is sent, or nobody waits for it any more.

        Called once, as the last.
        """


class CallDispatcher(Protocol):
    """Takes calls as they arrive."""

    def begin(self, call: IncomingCall) -> CallHandler:
        """Take a call of which the headers are there, and return what takes the rest.

        It may have been answered already. Never raises.
        """


class Transport(Protocol):
    """Serves calls at one address.

    Attributes:
        name: As the setting `transport` has it.
        address: Where it listens, as HOST:PORT with the real port.
    """

    name: str
    address: str

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, wait for those that have begun, and close.

        It takes as long as these calls, at most `grace_s` seconds, then at most half a second for
        answers that nobody reads, and then little more than 0.1 s. Again it does nothing.
        """
