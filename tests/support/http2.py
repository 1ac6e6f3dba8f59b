"""Just enough HTTP/2 to send and see single frames: settings, pings and farewells."""

import socket
from dataclasses import dataclass
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACK = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the connection itself, that is of stream 0 where nothing else is said."""

    kind: int
    flags: int = 0
    payload: bytes = b""
    stream: int = 0

    def encoded(self) -> bytes:
        head = len(self.payload).to_bytes(3, "big") + bytes((self.kind, self.flags))
        return head + self.stream.to_bytes(4, "big") + self.payload


class Http2Connection:
    """One end of a connection. Whoever connected says the preface; both say their settings."""

    def __init__(self, end: socket.socket, *, client: bool) -> None:
        self._socket = end
        self._read = end.makefile("rb")
        if client:
            end.sendall(PREFACE)
        else:
            assert self._read.read(len(PREFACE)) == PREFACE
        self.send(Frame(SETTINGS))

    @classmethod
    def to(cls, address: str) -> Self:
        """Connect to HOST:PORT."""
        host, _, port = address.rpartition(":")
        return cls(socket.create_connection((host, int(port)), timeout=30), client=True)

    def send(self, *frames: Frame) -> None:
        self._socket.sendall(b"".join(frame.encoded() for frame in frames))

    def receive(self) -> Frame | None:
        """The next frame, or None once the other side has closed. Settings are acknowledged."""
        try:
            head = self._read.read(9)
            if len(head) < 9:
                return None
            payload = self._read.read(int.from_bytes(head[:3], "big"))
        except ConnectionError:
            return None
        frame = Frame(head[3], head[4], payload, int.from_bytes(head[5:], "big"))
        if frame.kind == SETTINGS and not frame.flags & ACK:
            self.send(Frame(SETTINGS, ACK))
        return frame

    def close(self) -> None:
        self._read.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
