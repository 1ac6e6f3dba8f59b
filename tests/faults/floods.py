"""Floods: frames that cost a stranger next to nothing, sent as fast as one process can."""

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from hyperframe.frame import SettingsFrame

from entitlements.v1 import entitlement_service_pb2 as pb
from faults.attacks import SERVICE
from support import raw_http2
from support.raw_http2 import Connection

_BATCH = 200
_PINGS = raw_http2.ping() * _BATCH
_SETTINGS = (
    raw_http2.settings({SettingsFrame.INITIAL_WINDOW_SIZE: 65_535})
    + raw_http2.settings({SettingsFrame.INITIAL_WINDOW_SIZE: 65_536})
) * (_BATCH // 2)
_FREE = pb.ConsumeRequest(user_id="stranger", feature="headline_pick").SerializeToString()


class Flood(StrEnum):
    """Frames that cost the sender little."""

    RESET = "HEADERS and RST_STREAM"
    MESSAGE_RESET = "HEADERS, DATA and RST_STREAM"
    PING = "PING"
    SETTINGS = "SETTINGS"
    UNREAD_PING = "PING, answers unread"


@dataclass(slots=True)
class Flooded:
    """What a flood came to.

    Attributes:
        sent: Times that its frames went out.
        seconds: How long it went on.
        connections: How many it took: more than one where the server closed them.
        goaways: How often which error code of GOAWAY was seen.
        closed: How many connections the server ended, by GOAWAY or at once.
    """

    sent: int = 0
    seconds: float = 0.0
    connections: int = 0
    goaways: Counter[int] = field(default_factory=Counter)
    closed: int = 0


def flood(address: str, kind: Flood, limit_s: float, *, again: bool = False) -> Flooded:
    """Send frames of a kind as fast as they are taken, until the server ends the connection.

    `again`: then over a new connection, until the time is up.
    """
    flooded, begin = Flooded(), time.monotonic()
    end = begin + limit_s
    while time.monotonic() < end and (again or not flooded.connections):
        try:
            connection = Connection(address, reads=kind is not Flood.UNREAD_PING)
        except OSError:
            time.sleep(0.01)
            continue
        with connection:
            connection.meet(limit_s)
            while time.monotonic() < end and not connection.closed and connection.goaway is None:
                frames = _frames(kind, connection)
                flooded.sent += _BATCH * connection.send(frames, end - time.monotonic())
                # What has come on streams that were reset is of no interest.
                connection.answers.clear()
            flooded.connections += 1
            flooded.closed += connection.closed or connection.goaway is not None
            if connection.goaway is not None:
                flooded.goaways[connection.goaway] += 1
    flooded.seconds = time.monotonic() - begin
    return flooded


def _frames(kind: Flood, connection: Connection) -> bytes:
    if kind in (Flood.PING, Flood.UNREAD_PING):
        return _PINGS
    if kind is Flood.SETTINGS:
        return _SETTINGS
    frames = []
    for _ in range(_BATCH):
        stream = connection.new_stream()
        frames.append(raw_http2.headers(stream, SERVICE + b"/Consume"))
        if kind is Flood.MESSAGE_RESET:
            frames.append(raw_http2.data(stream, _FREE))
        frames.append(raw_http2.reset(stream))
    return b"".join(frames)
