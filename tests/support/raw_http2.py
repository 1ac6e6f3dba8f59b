"""HTTP/2 as a stranger speaks it: each frame as the test wants it, right or wrong.

A connection does by itself only what keeps it alive: it acknowledges the server's SETTINGS and PING.
It grants no window, honours no limit and closes nothing unless a test says so.
"""

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

Header = tuple[bytes, bytes]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = 8
NO_LIMIT = 2**31 - 1
_HEAD_BYTES = 9
_READ_BYTES = 2**18


@dataclass(slots=True)
class Answer:
    """What has come on one stream.

    Attributes:
        headers: Of all header frames together, trailers included.
        data_bytes: Size of the messages, their prefixes included.
        reset: The error code of RST_STREAM, or None.
        ended: Whether the server is done with the stream.
    """

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data_bytes: int = 0
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> int | None:
        """The gRPC status; None: there is none."""
        status = self.headers.get(b"grpc-status")
        return None if status is None else int(status)


class Connection:
    """One connection to HOST:PORT, its preface and SETTINGS sent.

    Args:
        address: As HOST:PORT.
        settings: The client's SETTINGS, by their numbers.
        reads: False: what the server sends stays in the socket, unread.

    Attributes:
        answers: By stream; only of streams on which something came.
        goaway: The error code of the server's GOAWAY, or None.
        closed: Whether the server has closed the connection.
        max_streams: How many streams at once the server allows by its SETTINGS.
        pings: How many PINGs the server has acknowledged.
    """

    def __init__(
        self, address: str, settings: dict[int, int] | None = None, *, reads: bool = True
    ) -> None:
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self.max_streams = NO_LIMIT
        self.pings = 0
        self._reads = reads
        self._met = False
        self._next_stream = 1
        self._ended = 0
        self._decoder = Decoder()
        self._received = bytearray()
        self._owed = bytearray()
        self._socket = connect(address)
        self._socket.setblocking(False)
        self.send(PREFACE + SettingsFrame(settings=settings or {}).serialize())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, without GOAWAY."""
        self._socket.close()

    def meet(self, limit_s: float = 10) -> bool:
        """Wait for the server's SETTINGS; returns whether they came."""
        return self.wait(lambda: self._met, limit_s)

    def call(
        self, path: bytes, *metadata: Header, message: bytes | None = None, half_closed: bool = True
    ) -> int:
        """Begin a call; returns its stream. Without a message it goes on being awaited."""
        stream = self.new_stream()
        sent = headers(stream, path, *metadata)
        if message is not None:
            sent += data(stream, message, end=half_closed)
        self.send(sent)
        return stream

    def new_stream(self) -> int:
        """The number of a stream that was not used before."""
        stream = self._next_stream
        self._next_stream += 2
        return stream

    def ping(self, limit_s: float = 10) -> bool:
        """Wait until the server has read all that was sent; returns whether it said so in time."""
        before = self.pings
        self.send(ping())
        return self.wait(lambda: self.pings > before, limit_s)

    def answer(self, stream: int, limit_s: float = 10) -> Answer:
        """Wait for the end of a stream; returns what has come until then."""
        self.wait(lambda: self.is_over(stream), limit_s)
        return self.answers.get(stream, Answer())

    def is_over(self, stream: int) -> bool:
        """Whether the server is done with a stream."""
        return stream in self.answers and self.answers[stream].ended

    @property
    def unanswered(self) -> int:
        """How many streams were begun with which the server isn't done."""
        return self._next_stream // 2 - self._ended

    @property
    def silent(self) -> int:
        """How many streams were begun on which nothing has come."""
        return 0 if self.closed else self._next_stream // 2 - len(self.answers)

    def wait(self, holds: Callable[[], bool], limit_s: float) -> bool:
        """Read until something holds, the connection is closed, or the time is up."""
        end = time.monotonic() + limit_s
        while not holds():
            left = end - time.monotonic()
            if self.closed or left <= 0:
                return False
            if select.select([self._socket], [], [], left)[0]:
                self._read()
                if self._owed:
                    self.send(b"")
        return True

    def send(self, frames: bytes, limit_s: float = 10) -> bool:
        """Send bytes as they are, and read meanwhile; returns whether all of it went out."""
        left = memoryview(bytes(self._owed) + frames)
        self._owed.clear()
        end = time.monotonic() + limit_s
        while left and not self.closed and time.monotonic() < end:
            readers = [self._socket] if self._reads else []
            readable, writable, _ = select.select(readers, [self._socket], [], 0.1)
            try:
                if writable:
                    left = left[self._socket.send(left) :]
            except BlockingIOError:
                continue
            except OSError:
                self.closed = True
            if readable:
                self._read()
        return not left

    def _read(self) -> None:
        try:
            received = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self.closed = self.closed or not received
        self._received += received
        for frame in self._frames():
            self._take(frame)

    def _frames(self) -> Iterator[Frame]:
        """Cut whole frames off what was received."""
        begin = 0
        view = bytes(self._received)
        while len(view) - begin >= _HEAD_BYTES:
            body = begin + _HEAD_BYTES
            frame, length = Frame.parse_frame_header(memoryview(view[begin:body]))
            if len(view) - body < length:
                break
            frame.parse_body(memoryview(view[body : body + length]))
            begin = body + length
            yield frame
        del self._received[:begin]

    def _take(self, frame: Frame) -> None:
        match frame:
            case SettingsFrame() if "ACK" not in frame.flags:
                self._met = True
                self.max_streams = frame.settings.get(
                    SettingsFrame.MAX_CONCURRENT_STREAMS, self.max_streams
                )
                self._owed += SettingsFrame(flags=["ACK"]).serialize()
            case PingFrame() if "ACK" in frame.flags:
                self.pings += 1
            case PingFrame():
                self._owed += PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize()
            case GoAwayFrame():
                self.goaway = frame.error_code
            case HeadersFrame() | DataFrame() | RstStreamFrame():
                self._take_answer(frame)

    def _take_answer(self, frame: HeadersFrame | DataFrame | RstStreamFrame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        match frame:
            case HeadersFrame():
                answer.headers.update(self._decoder.decode(frame.data, raw=True))
            case DataFrame():
                answer.data_bytes += len(frame.data)
            case RstStreamFrame():
                answer.reset = frame.error_code
        if not answer.ended and (answer.reset is not None or "END_STREAM" in frame.flags):
            answer.ended = True
            self._ended += 1


def connect(address: str) -> socket.socket:
    """A TCP connection to HOST:PORT."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def headers(stream: int, path: bytes, *metadata: Header) -> bytes:
    """A HEADERS frame that begins a gRPC call to a path, whatever bytes it has."""
    return _at(_headers(path, metadata), stream)


def data(stream: int, message: bytes = b"", *, end: bool = True) -> bytes:
    """A DATA frame with one whole message."""
    return _at(_data(message, end), stream)


def reset(stream: int, code: int = CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return _at(_reset(code), stream)


def ping(opaque: bytes = b"stranger") -> bytes:
    """A PING frame; `opaque` has eight bytes."""
    return PingFrame(opaque_data=opaque).serialize()


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return SettingsFrame(settings=values).serialize()


def window(size: int, stream: int = 0) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return WindowUpdateFrame(stream, size).serialize()


@lru_cache
def _headers(path: bytes, metadata: tuple[Header, ...]) -> bytes:
    """One for stream 1. Nothing is put in the table of either side, so that it can be sent again."""
    named = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *metadata,
    )
    block = Encoder().encode([(name, value, True) for name, value in named])
    return HeadersFrame(1, block, flags=["END_HEADERS"]).serialize()


@lru_cache
def _data(message: bytes, end: bool) -> bytes:
    flags = ["END_STREAM"] if end else []
    prefixed = b"\0" + len(message).to_bytes(4, "big") + message
    return DataFrame(1, prefixed, flags=flags).serialize()


@lru_cache
def _reset(code: int) -> bytes:
    return RstStreamFrame(1, code).serialize()


def _at(frame: bytes, stream: int) -> bytes:
    """The same frame on another stream."""
    return frame[:5] + stream.to_bytes(4, "big") + frame[_HEAD_BYTES:]
