"""Turns what C libraries write to standard error into log lines.

gRPC's core reports failed TLS handshakes and other problems as plain lines, and a stranger can cause
any number of them. Here file descriptor 2 is replaced by a pipe: each line becomes a log event, floods
are throttled, and failed handshakes are counted.
"""

import faulthandler
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from entitlements_server.instrumentation.logs import Throttle

log = structlog.get_logger()

_LINE = re.compile(r"(?P<level>[IWEF])\d{4} [\d:.]+ +\d+ (?P<source>\S+?:\d+)\] (?P<text>.*)")
_HANDSHAKE = "Handshake failed"
_MAX_LINE_BYTES = 1000


class NativeLog:
    """Logs lines of C libraries.

    Attributes:
        on_handshake_failure: Called for each failed TLS handshake, on the reading thread.
    """

    def __init__(self) -> None:
        self.on_handshake_failure: Callable[[], None] = lambda: None
        self._throttle = Throttle(lines=20, seconds=10.0)

    def take(self, line: str) -> None:
        """Log a line, unless there are too many of its kind."""
        found = _LINE.fullmatch(line)
        text = found["text"] if found else line
        failed_handshake = _HANDSHAKE in text
        if failed_handshake:
            self.on_handshake_failure()
        suppressed = self._throttle.ask("handshake" if failed_handshake else "other")
        if suppressed is None:
            return
        if failed_handshake:
            log.warning(
                "A TLS handshake failed: the client does not use TLS, or one side does not trust the"
                " other's certificate.",
                cause=text,
                similar_lines_suppressed=suppressed,
            )
        else:
            log.warning(
                "A library wrote a message.",
                text=text,
                source=found["source"] if found else "",
                similar_lines_suppressed=suppressed,
            )


@contextmanager
def native_log() -> Iterator[NativeLog]:
    """Log what is written to file descriptor 2 while the block runs.

    `sys.stderr` still writes to its original target, and so does the fault handler if the process
    crashes.
    """
    taken = NativeLog()
    original = os.dup(2)
    reading, writing = os.pipe()
    # A library must never wait until its line is read: it is better to lose the line.
    os.set_blocking(writing, False)
    sys.stderr.flush()
    before = sys.stderr
    stderr = os.fdopen(original, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = stderr
    os.dup2(writing, 2)
    os.close(writing)
    faulthandler.enable(stderr)
    reader = threading.Thread(target=_read, args=(reading, taken), name="native-log", daemon=True)
    reader.start()
    try:
        yield taken
    finally:
        faulthandler.disable()
        # This closes the last writing end of the pipe, which ends the reader.
        os.dup2(original, 2)
        reader.join()
        sys.stderr = before
        stderr.flush()
        os.close(original)


def _read(reading: int, taken: NativeLog) -> None:
    with os.fdopen(reading, "rb") as lines:
        while line := lines.readline(_MAX_LINE_BYTES):
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                taken.take(text)
