"""One worker as the supervisor sees it: a process that can be started again."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import msgspec

from entitlements_server.workers.link import VARIABLE, Assignment, Lines, Report, Serving

ANSWER_S = 1.0
"""How long a worker may take to report."""


class WorkerProcess:
    """A worker. It runs the command of this process, and its environment says which worker it is.

    Args:
        index: Which worker it is: 0 to N - 1.
        address: Where it listens, together with the others.
    """

    def __init__(self, index: int, address: str) -> None:
        self.index = index
        self._address = address
        self._lock = threading.Lock()
        self._lines: Lines | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._ready_s = 0.0
        self._request = 0
        self._reload_when_ready = False
        self._is_ready = False

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it serves, and has not ended as far as is known."""
        return self._is_ready

    @property
    def pid(self) -> int:
        """The id of its newest process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start its process. It is started, not forked: gRPC and threads do not survive a fork."""
        ours, theirs = socket.socketpair()
        with theirs:
            assignment = Assignment(self.index, self._address, theirs.fileno())
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal reaches the supervisor alone, which passes it on.
                process_group=0,
                env={**os.environ, VARIABLE: msgspec.json.encode(assignment).decode()},
            )
        with self._lock:
            self._lines = Lines(ours)
        self._reload_when_ready = False

    async def ready(self) -> Serving | None:
        """Wait until it serves. None: it has ended before."""
        lines = self._lines
        assert lines is not None
        try:
            line = await asyncio.to_thread(lines.receive)
        except OSError:
            line = None
        if line is None:
            return None
        self._ready_s = time.monotonic()
        self._is_ready = True
        if self._reload_when_ready:
            self.signal(signal.SIGHUP)
        return msgspec.json.decode(line, type=Serving)

    async def ended(self) -> tuple[int, float]:
        """Wait until its process has ended. Returns its status, and for how many seconds it served."""
        assert self._process is not None
        status = await self._process.wait()
        served_s = time.monotonic() - self._ready_s if self._is_ready else 0.0
        self._is_ready = False
        with self._lock:
            if self._lines is not None:
                self._lines.close()
                self._lines = None
        return status, served_s

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process, if it has one."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def reload(self) -> None:
        """Have it read its files again, at the latest when it serves: until then SIGHUP would end it."""
        if self._is_ready:
            self.signal(signal.SIGHUP)
        else:
            self._reload_when_ready = True

    def report(self) -> Report | None:
        """Ask it how it does. None: it does not serve, or does not answer in time. On any thread."""
        with self._lock:
            if not self._is_ready or self._lines is None:
                return None
            self._request += 1
            try:
                self._lines.send(str(self._request).encode())
                while line := self._lines.receive(ANSWER_S):
                    report = msgspec.json.decode(line, type=Report)
                    # An older one is the answer to a request that was given up.
                    if report.request == self._request:
                        return report
            except OSError:
                pass
            return None
