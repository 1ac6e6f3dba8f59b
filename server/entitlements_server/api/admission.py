"""Admission: limits on the calls that the server handles at a time.

A call counts from its first header until its last byte is sent or it ends. gRPC itself limits the
calls of one connection (`max_streams`) and the connections (`max_connections`).
"""

from dataclasses import dataclass
from enum import Enum

from entitlements_server.api.errors import TooManyStreamsError
from entitlements_server.errors import OverloadedError
from entitlements_server.transport.interface import IncomingCall

_SHED_DELAY_S = 0.5
_LEAVING_DELAY_S = 2.0

MAX_OPEN = 4096
"""Calls at a time of methods that need no authentication."""

MAX_OPEN_PER_CONNECTION = 64
"""The same, per connection, so that a stranger cannot keep others from checking health."""


class Kind(Enum):
    """Which limit a call counts against."""

    WORK = "work"
    """Calls of authenticated callers, which read or write the ledger."""

    OPEN = "open"
    """Calls that need no authentication. They are answered under any load, up to a limit."""

    STREAMING = "streaming"
    """Calls of any duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The limits.

    Attributes:
        max_in_flight: Calls of kind WORK at a time.
        max_streaming: Streaming calls at a time.
        max_streaming_per_connection: The same, per connection.
    """

    max_in_flight: int
    max_streaming: int
    max_streaming_per_connection: int


class Admission:
    """Counts calls and sheds those beyond a limit. For one thread at a time.

    Attributes:
        in_flight: Calls that have begun and not ended, of any kind.
        leaving: Whether the server is stopping and sheds new calls.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._counts = dict.fromkeys(Kind, 0)
        self._by_peer: dict[tuple[Kind, str], int] = {}
        self.leaving = False

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended, of any kind."""
        return sum(self._counts.values())

    def enter(self, kind: Kind, call: IncomingCall) -> str:
        """Admit a call.

        Returns:
            A ticket, to pass to `exit` when the call has ended.

        Raises:
            OverloadedError: A limit is reached. Nothing was charged.
            TooManyStreamsError: The total limit on streaming calls is reached.
        """
        if kind is Kind.WORK:
            self._require_room(call)
            self._counts[kind] += 1
            return ""
        bounds = self._bounds
        if kind is Kind.STREAMING and self.leaving:
            # Nothing would end it, and the server would wait for it.
            raise leaving_error()
        if kind is Kind.STREAMING:
            limit, limit_per_connection = bounds.max_streaming, bounds.max_streaming_per_connection
        else:
            limit, limit_per_connection = MAX_OPEN, MAX_OPEN_PER_CONNECTION
        peer = call.peer()
        mine = self._by_peer.get((kind, peer), 0)
        if self._counts[kind] >= limit:
            if kind is Kind.STREAMING:
                raise TooManyStreamsError(limit)
            raise OverloadedError(
                f"The server is handling {limit} {kind.value} calls, its limit: try again after the"
                " delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="in_flight",
            )
        if mine >= limit_per_connection:
            raise OverloadedError(
                f"This connection has {limit_per_connection} {kind.value} calls, the limit per"
                " connection: end some of them first.",
                retry_delay_s=_SHED_DELAY_S,
                cause="streaming",
            )
        self._by_peer[kind, peer] = mine + 1
        self._counts[kind] += 1
        return peer

    def exit(self, kind: Kind, ticket: str) -> None:
        """Stop counting a call that has ended."""
        self._counts[kind] -= 1
        if ticket:
            left = self._by_peer[kind, ticket] - 1
            if left:
                self._by_peer[kind, ticket] = left
            else:
                del self._by_peer[kind, ticket]

    def _require_room(self, call: IncomingCall) -> None:
        if self.leaving:
            raise leaving_error()
        if self._counts[Kind.WORK] >= self._bounds.max_in_flight:
            raise OverloadedError(
                "The server is handling as many calls as it can, and nothing was charged: send the"
                " request again after the delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="in_flight",
            )
        if not call.has_room():
            raise unsent_error()


def leaving_error() -> OverloadedError:
    """Return the error for calls that a stopping server sheds."""
    return OverloadedError(
        "This server is shutting down, and nothing was charged: send the request again, to another"
        " server or when this one is back.",
        retry_delay_s=_LEAVING_DELAY_S,
        cause="draining",
    )


def unsent_error() -> OverloadedError:
    """Return the error for callers that do not read their answers."""
    return OverloadedError(
        "Too many answers are waiting to be read, and nothing was charged: read the answers, then"
        " send the request again.",
        retry_delay_s=_SHED_DELAY_S,
        cause="unsent",
    )
