"""The interface between a transport and the API.

A transport calls its `CallDispatcher`, and the `CallHandler`s that it returns, from one thread at a
time and never from the event loop. The methods of an `IncomingCall` may be called from any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

Metadata = Sequence[tuple[str, str | bytes]]
"""The metadata of a call or an answer. A value is bytes if its key ends in `-bin`."""

FOREVER_S = 1e15
"""More than this is no deadline: gRPC uses 9.2e18 seconds."""

LARGE_MESSAGE_BYTES = 4096
"""Messages of at least this size count against the limits on unsent bytes.

Smaller messages are limited by the number of calls in flight.
"""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """The status of a failed call.

    Attributes:
        code: The status code; not OK.
        message: A sentence for the caller.
        trailers: Trailing metadata: printable ASCII, or bytes if the key ends in `-bin`.
    """

    code: grpc.StatusCode
    message: str
    trailers: Metadata = ()


class IncomingCall(Protocol):
    """A call, from its first header to its end.

    The first call of `reply`, `finish` or `fail` ends the call; later ones do nothing. On a call that
    has ended, all methods do nothing.

    Attributes:
        path: Such as `/package.Service/Method`. Bytes that are not ASCII are decoded as Latin-1.
        metadata: The metadata of the call. Never logged, as it may contain a token.
        deadline_s: The deadline, by `time.monotonic`; None: no deadline.
    """

    path: str
    metadata: Metadata
    deadline_s: float | None

    def peer(self) -> str:
        """Return the address of the peer, such as `ipv4:127.0.0.1:40122`."""

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the verified properties of the peer's certificate, by gRPC's property names."""

    def has_room(self, size: int = 0) -> bool:
        """Return whether `size` more bytes may wait to be sent, on this connection and in total."""

    def receive(self) -> None:
        """Ask for the next message of a stream. The transport asks for the first one."""

    def send(self, message: bytes) -> None:
        """Send a message of a stream. Wait for `CallHandler.sent` before sending the next."""

    def reply(self, message: bytes) -> None:
        """Send the only message and end the call with OK."""

    def finish(self) -> None:
        """End a stream with OK."""

    def fail(self, status: CallStatus) -> None:
        """End the call with an error."""


class CallHandler(Protocol):
    """Handles the events of one call. No method raises."""

    def received(self, message: bytes) -> None:
        """Handle a message that was asked for."""

    def half_closed(self) -> None:
        """There is no further message: the last `receive` gets none."""

    def overdue(self) -> None:
        """The first message did not come in time: end the call."""

    def sent(self) -> None:
        """A message of a stream was sent, as far as flow control is concerned."""

    def ended(self) -> None:
        """The call is over: its last byte was sent, or it was cancelled.

        Called exactly once, as the last method.
        """


class CallDispatcher(Protocol):
    """Accepts calls as they arrive."""

    def begin(self, call: IncomingCall) -> CallHandler:
        """Accept a call whose headers have arrived, and return its handler.

        It may already answer the call. Never raises.
        """


class Transport(Protocol):
    """Serves calls on one address.

    Attributes:
        name: Its name in the setting `transport`.
        address: The address it listens on, as HOST:PORT with the actual port, or unix:/PATH.
    """

    name: str
    address: str

    async def stop(self, grace_s: float) -> None:
        """Accept no more calls, wait for those that have begun, and close.

        This takes as long as these calls, but at most `grace_s` seconds; then at most half a second for
        answers that nobody reads; then little more than 0.1 s. Does nothing when called again.
        """
