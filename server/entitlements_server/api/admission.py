"""Whether there is room for a call: bounds on what the server works on at once.

A call counts from its first header to its last byte sent, or to its end. gRPC itself bounds the calls of one
connection (`max_streams`) and the connections (`max_connections`).
"""

from dataclasses import dataclass
from enum import Enum

from entitlements_server.api.errors import TooManyStreamsError
from entitlements_server.errors import OverloadedError
from entitlements_server.transport.interface import IncomingCall

_SHED_DELAY_S = 0.5
_LEAVING_DELAY_S = 2.0

MAX_OPEN = 4096
"""Calls at once of methods that are open to strangers."""

MAX_OPEN_PER_CONNECTION = 64
"""The same, of one connection: so a stranger cannot keep others from asking for health."""


class Kind(Enum):
    """What a call takes room of."""

    WORK = "work"
    """Calls of callers, which read or write the ledger."""

    OPEN = "open"
    """Calls that anyone may make. They are answered under any load, but not without a bound."""

    STREAMING = "streaming"
    """Calls that may last as long as they like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much there is room for.

    Attributes:
        max_in_flight: Calls of callers worked on at once.
        max_streaming: Calls that stream, at once.
        max_streaming_per_connection: The same, of one connection.
    """

    max_in_flight: int
    max_streaming: int
    max_streaming_per_connection: int


class Admission:
    """Counts calls and sheds those for which there is no room. For one thread at a time.

    Attributes:
        in_flight: Calls that are begun and not over, whatever their kind.
        leaving: The server stops: new work is shed.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._counts = dict.fromkeys(Kind, 0)
        self._by_peer: dict[tuple[Kind, str], int] = {}
        self.leaving = False

    @property
    def in_flight(self) -> int:
        """Calls that are begun and not over, whatever their kind."""
        return sum(self._counts.values())

    def enter(self, kind: Kind, call: IncomingCall) -> str:
        """Make room for a call.

        Returns:
            What to give to `exit` when it is over.

        Raises:
            OverloadedError: There is none. Nothing was charged.
            TooManyStreamsError: There is none for a call of this kind from anyone.
        """
        if kind is Kind.WORK:
            self._require_room(call)
            self._counts[kind] += 1
            return ""
        bounds = self._bounds
        if kind is Kind.STREAMING and self.leaving:
            # Nobody would end it any more, and the server would wait for it.
            raise leaving_error()
        if kind is Kind.STREAMING:
            most, most_of_one = bounds.max_streaming, bounds.max_streaming_per_connection
        else:
            most, most_of_one = MAX_OPEN, MAX_OPEN_PER_CONNECTION
        peer = call.peer()
        mine = self._by_peer.get((kind, peer), 0)
        if self._counts[kind] >= most:
            if kind is Kind.STREAMING:
                raise TooManyStreamsError(most)
            raise OverloadedError(
                f"The server has {most} {kind.value} calls, as many as it can: try again after the"
                " delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="in_flight",
            )
        if mine >= most_of_one:
            raise OverloadedError(
                f"This connection has {most_of_one} {kind.value} calls, as many as one may have:"
                " end some of them first.",
                retry_delay_s=_SHED_DELAY_S,
                cause="streaming",
            )
        self._by_peer[kind, peer] = mine + 1
        self._counts[kind] += 1
        return peer

    def exit(self, kind: Kind, ticket: str) -> None:
        """Take note that a call for which `enter` made room is over."""
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
                "The server works on as many calls as it can and nothing was charged: send the"
                " request again after the delay.",
                retry_delay_s=_SHED_DELAY_S,
                cause="in_flight",
            )
        if not call.has_room():
            raise unsent_error()


def leaving_error() -> OverloadedError:
    """Return what is said to those whom a stopping server does not serve any more."""
    return OverloadedError(
        "This server is shutting down and nothing was charged: send the request again, to another"
        " server or when it is back.",
        retry_delay_s=_LEAVING_DELAY_S,
        cause="draining",
    )


def unsent_error() -> OverloadedError:
    """Return what is said to those who do not read the answers that they asked for."""
    return OverloadedError(
        "As much as may wait to be sent is waiting and nothing was charged: read the answers, then"
        " send the request again.",
        retry_delay_s=_SHED_DELAY_S,
        cause="unsent",
    )
