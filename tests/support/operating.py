"""A server as operators run it: with a file, with TLS, with its log and its signals."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

from support.processes import command

PATIENCE_S = 30


class Served:
    """A server whose log is kept in a file, so that nothing waits for it to be read."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.log_file = folder / "log"
        self._log = self.log_file.open("wb")
        self.process = subprocess.Popen(
            [command("entitlements-server"), "serve", "--listen", "localhost:0", *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self.process.stdout is not None
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Try: "):
                break
        else:
            raise AssertionError(f"The server did not start: {self.log}")
        self.address = self._said(r"Listening on (\S+)")

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found
        return found[1]

    @property
    def metrics_url(self) -> str:
        return self._said(r"Metrics on (\S+)")

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8")

    async def reload(self, event: str) -> None:
        """Send SIGHUP and wait until the log tells of `event` once more."""
        seen = self.log.count(event)
        self.process.send_signal(signal.SIGHUP)
        await until(lambda: self.log.count(event) > seen)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()


@asynccontextmanager
async def served(folder: Path, *options: str, **environment: str) -> AsyncIterator[Served]:
    server = Served(folder, *options, **environment)
    try:
        yield server
    finally:
        server.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # a file of another process sends no events
            await asyncio.sleep(0.01)


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("entitlements-server"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def callers(*entries: tuple[str, str, str]) -> str:
    """A configuration file of callers: name, role and token of each."""
    return "\n".join(
        f'[[callers]]\nname = "{name}"\nroles = ["{role}"]\n'
        f'token_sha256 = "{sha256(token.encode()).hexdigest()}"\n'
        for name, role, token in entries
    )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = await call.code()
    return code
