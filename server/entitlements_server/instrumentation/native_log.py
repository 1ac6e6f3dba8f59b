"""What libraries in C write to standard error, as log lines like all others.

gRPC's core reports failed TLS handshakes and its own troubles by plain lines, one for each, as many as a stranger
likes to cause. While this is on, file descriptor 2 is a pipe: each line becomes an event of the log, a
flood of them is throttled, and failed handshakes are counted.
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

_LINE = re.compile(r"(?P<level>[IWEF])\d{4} [\d:.]+ +\d+ (?P<place>\S+?:\d+)\] (?P<text>.*)")
_HANDSHAKE = "Handshake failed"
_MAX_LINE_BYTES = 1000


class NativeLog:
    """Takes lines and logs them.

    Attributes:
        on_handshake_failure: Called for each TLS handshake that failed, from a thread of its own.
    """

    def __init__(self) -> None:
        self.on_handshake_failure: Callable[[], None] = lambda: None
        self._throttle = Throttle(lines=20, seconds=10.0)

    def take(self, line: str) -> None:
        """Log a line, unless there are too many."""
        found = _LINE.fullmatch(line)
        text = found["text"] if found else line
        failed_handshake = _HANDSHAKE in text
        if failed_handshake:
            self.on_handshake_failure()
        kept_back = self._throttle.ask("handshake" if failed_handshake else "other")
        if kept_back is None:
            return
        if failed_handshake:
            log.warning(
                "A TLS handshake failed: whoever connected speaks no TLS, or trusts or is trusted"
                " by other authorities.",
                cause=text,
                similar_lines_kept_back=kept_back,
            )
        else:
            log.warning(
                "A library reports something.",
                text=text,
                place=found["place"] if found else "",
                similar_lines_kept_back=kept_back,
            )


@contextmanager
def native_log() -> Iterator[NativeLog]:
    """Take what is written to file descriptor 2 while the block runs.

    `sys.stderr` goes on writing to where it did. Should the process crash, the fault handler does, too.
    """
    taken = NativeLog()
    original = os.dup(2)
    reading, writing = os.pipe()
    # A library must never wait for its line to be read: rather the line is lost.
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
        # The last writing end of the pipe: the reader comes to its end.
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
