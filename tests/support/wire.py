"""A wire to a real service that a test can hold and cut."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Wire:
    """A TCP connection in between, whose replies can be held back.

    Attributes:
        refuse: Number of new connections that are closed at once, as if nobody were there.
    """

    def __init__(self, address: str) -> None:
        self._server = address
        self.refuse = 0
        self._replies = threading.Event()
        self._replies.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._spawn(self._accept)

    def hold_replies(self) -> None:
        """Let requests through and keep what comes back."""
        self._replies.clear()

    def cut(self) -> None:
        """Close every connection; what was held is lost. New ones pass, once there is an end."""
        for each in self._sockets:
            # Shutdown wakes the thread that reads it; close alone would not.
            with _dead_is_fine():
                each.shutdown(socket.SHUT_RDWR)
        self._replies.set()

    def close(self) -> None:
        """Close for good."""
        with _dead_is_fine():
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with _dead_is_fine():
            while True:
                near, _ = self._listener.accept()
                if self.refuse:
                    self.refuse -= 1
                    near.close()
                    continue
                host, _, port = self._server.rpartition(":")
                try:
                    far = socket.create_connection((host, int(port)))
                except OSError:
                    near.close()
                    continue
                self._sockets += [near, far]
                self._spawn(self._pump, near, far, None)
                self._spawn(self._pump, far, near, self._replies)

    def _pump(
        self, source: socket.socket, sink: socket.socket, gate: threading.Event | None
    ) -> None:
        with source, sink, _dead_is_fine():
            while data := source.recv(65536):
                if gate is not None and not gate.is_set():
                    break
                sink.sendall(data)
            if gate is not None:
                # Held until the wire is cut: neither these bytes nor the end arrive before.
                gate.wait()

    @staticmethod
    def _spawn(target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]


@contextmanager
def _dead_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError:
        return
