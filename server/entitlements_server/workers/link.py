"""The socket between the supervisor and a worker: lines of JSON.

A worker says once that it serves. Then the supervisor asks, and the worker answers with its metrics. When the
supervisor has ended, however it did, the worker sees the end of the socket and stops.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry

VARIABLE = "_ENTITLEMENTS_WORKER"
"""The environment variable by which a process learns that it is a worker."""

_CHUNK_BYTES = 65536


class Assignment(Struct, frozen=True):
    """What a worker is told by its environment.

    Attributes:
        index: 0 to N - 1: it is the same for the worker that replaces this one.
        address: Where to listen, together with the others.
        descriptor: The file descriptor of its end of the socket.
    """

    index: int
    address: str
    descriptor: int


class Serving(Struct, frozen=True):
    """What a worker says when it serves: the version of its catalogue."""

    catalogue_version: str


class Family(Struct, frozen=True):
    """The samples of one metric: name, labels and value each."""

    name: str
    documentation: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


class Report(Struct, frozen=True):
    """How a worker does: whether it is SERVING, and its metrics. `request` is the number of the request."""

    request: int
    is_serving: bool
    families: list[Family]


class Lines:
    """Sends and receives lines on a socket. For one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def send(self, line: bytes) -> None:
        """Send a line.

        Raises:
            OSError: The other side has ended, or does not read.
        """
        self._connection.sendall(line + b"\n")

    def receive(self, limit_s: float | None = None) -> bytes | None:
        """Return the next line; None: the other side has ended.

        Raises:
            TimeoutError: It did not come in time.
            OSError: The other side was killed.
        """
        end_s = None if limit_s is None else time.monotonic() + limit_s
        while b"\n" not in self._rest:
            left_s = None if end_s is None else max(end_s - time.monotonic(), 1e-6)
            self._connection.settimeout(left_s)
            received = self._connection.recv(_CHUNK_BYTES)
            if not received:
                return None
            self._rest += received
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def close(self) -> None:
        """Close the socket, which wakes a thread that receives."""
        with suppress(OSError):  # the other side was faster
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class WorkerLink:
    """The worker's end.

    Attributes:
        assignment: What this worker is to do.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self._lines = Lines(socket.socket(fileno=assignment.descriptor))
        self._registry = CollectorRegistry()
        self._is_serving: Callable[[], bool] = lambda: True

    @contextmanager
    def expose(self, registry: CollectorRegistry, is_serving: Callable[[], bool]) -> Iterator[str]:
        """Give metrics to the supervisor. It has the address for them, so this yields ''."""
        self._registry, self._is_serving = registry, is_serving
        yield ""

    def serve(self, catalogue_version: str, on_end: Callable[[], None]) -> None:
        """Say that this worker serves, and from now on answer the supervisor.

        Args:
            catalogue_version: Of the catalogue in use.
            on_end: Called on a thread of its own once the supervisor has ended.
        """

        def work() -> None:
            try:
                self._lines.send(msgspec.json.encode(Serving(catalogue_version)))
                while request := self._lines.receive():
                    self._lines.send(self._report(int(request)))
            except OSError:
                pass  # the supervisor was killed
            on_end()

        threading.Thread(target=work, name="supervisor-link", daemon=True).start()

    def _report(self, request: int) -> bytes:
        families = [
            Family(
                one.name,
                one.documentation,
                one.type,
                [(sample.name, sample.labels, sample.value) for sample in one.samples],
            )
            for one in self._registry.collect()
        ]
        return msgspec.json.encode(Report(request, self._is_serving(), families))


def link_of_worker() -> WorkerLink | None:
    """Return the link of this process to its supervisor, if it is a worker."""
    text = os.environ.pop(VARIABLE, "")
    return WorkerLink(msgspec.json.decode(text, type=Assignment)) if text else None
