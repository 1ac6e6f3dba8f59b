"""The server as a process of its own, as operators run it. Nothing else here starts one."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import grpc

from support.programs import command
from support.repository import TESTS
from support.waiting import until

START_S = 180
"""How long a server may take to listen, before the test fails: it has to happen, not to be fast."""

END_S = 60
"""How long a server may take to leave after SIGTERM, before the test fails."""


class ServerProcess:
    """`entitlements-server serve`, while the block runs, and started again as often as one likes.

    Its log goes to a file, so that it never waits for a reader.

    Args:
        options: Of `entitlements-server serve`.
        listen: HOST:PORT; a free port of loopback by default.
        breaking: A switch of faults/breaks.py: which promise it breaks.
        environment: Variables of the process, besides those of this one. FAULTS_LEAPS makes its clock leap:
            see faults/broken_server.py.

    Attributes:
        address: Where it listens, the same each time it is started.
        output: What it has printed: until it listened, and all of it once it has been stopped.
    """

    def __init__(
        self, *options: str, listen: str = "127.0.0.1:0", breaking: str = "", **environment: str
    ) -> None:
        self._program = [command("entitlements-server")]
        if breaking or "FAULTS_LEAPS" in environment:
            self._program = [sys.executable, "-m", "faults.broken_server", breaking]
            environment["PYTHONPATH"] = str(TESTS)
        self._options = options
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self.address = listen

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            self._end_softly()
        self.kill()
        self._log.close()

    def _end_softly(self) -> None:
        """A process that is killed can't say what it ran."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)

    def start(self) -> None:
        """Start it, the first time or after it was killed or stopped; it listens when this returns."""
        self.process = subprocess.Popen(
            [*self._program, "serve", "--listen", self.address, *self._options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=self._environment,
        )
        self.output = ""
        giving_up = threading.Timer(START_S, self.process.kill)
        giving_up.start()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Try: "):
                break
        giving_up.cancel()
        if "\nTry: " not in self.output:
            self.kill()
            raise AssertionError(f"The server did not start: {self.output}{self.log}")
        self.address = self._printed(r"Listening on (\S+)")

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    @property
    def is_up(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def metrics_url(self) -> str:
        """Where its metrics are."""
        return self._printed(r"Metrics on (\S+)")

    @property
    def log(self) -> str:
        """All that it has logged, in all its lives."""
        log = self._log.fileno()
        # Its offset is the server's as well: a seek would move where the server writes.
        return os.pread(log, os.fstat(log).st_size, 0).decode("utf-8", "replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def reload(self, event: str) -> None:
        """Send SIGHUP and wait until the log has `event` once more."""
        seen = self.log.count(event)
        self.signal(signal.SIGHUP)
        await until(lambda: self.log.count(event) > seen)

    def kill(self) -> None:
        """SIGKILL; nothing is finished and nothing is said."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> None:
        """SIGTERM; it has to end well, and `output` is complete."""
        self.signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=END_S)
        self.output += rest
        assert self.process.returncode == 0, self.log[-2000:]

    def _printed(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found
        return found[1]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `entitlements-server` with these words to its end."""
    return subprocess.run(
        [command("entitlements-server"), *words],
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
        env={**os.environ, **environment},
    )


@asynccontextmanager
async def served(
    *options: str, **environment: str
) -> AsyncIterator[tuple[ServerProcess, grpc.aio.Channel]]:
    """A server process and a channel to it, while the block runs."""
    with ServerProcess(*options, **environment) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield server, channel
