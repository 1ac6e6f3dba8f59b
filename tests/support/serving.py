"""Real services for tests: a server process, and a wire to it that a test can hold."""

import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

START_SECONDS = 60.0


class ServiceProcess:
    """An `entitlements-server` process that listens on a free loopback port."""

    def __init__(self, store: str = "memory://", listen: str = "127.0.0.1:0") -> None:
        # In the settings' environment nothing of the developer's shell may have a say.
        env = {k: v for k, v in os.environ.items() if not k.startswith("ENTITLEMENTS_")}
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "entitlements-server"),
                *("serve", "--listen", listen, "--store", store),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env | {"PYTHONUNBUFFERED": "1"},
        )
        self.address = self._read_address()

    def _read_address(self) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            ready = selector.select(START_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line.startswith("Listening on "):
            self._process.kill()
            raise AssertionError(f"the server did not start: {self._process.communicate()}")
        return line.removeprefix("Listening on ").strip()

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """SIGTERM, then wait until it has drained."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.communicate(timeout=START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Wire:
    """A TCP connection in between, whose replies can be held back and whose end can be moved.

    Attributes:
        behind: Where new connections end.
        refuse: So many new connections are closed at once, as if nobody were there.
    """

    def __init__(self, address: str) -> None:
        self.behind = address
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
                host, _, port = self.behind.rpartition(":")
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
