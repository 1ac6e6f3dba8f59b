"""Servers as processes that are killed and started again on the same address and the same ledger."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

START_SECONDS = 60
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.max_receive_message_length", -1),
)
"""A server that comes back is found at once."""


class Server:
    """One address and one ledger, and at most one process at a time.

    Args:
        folder: For the ledger and the log.
        breaking: A switch of breaks.py.
        options: Of `entitlements-server serve`.
    """

    def __init__(self, folder: Path, *options: str, breaking: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.log = folder / "server.log"
        self._options = options or ("--store", f"sqlite://{folder}/ledger.sqlite")
        self._breaking = breaking
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> float:
        """Start a process; returns after how many seconds it has answered a call."""
        assert not self.is_up, "It runs already."
        begin = time.monotonic()
        python = [sys.executable, "-m", "faults.broken_server", self._breaking]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*python, "serve", "--listen", self.address, *self._options],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
        self._wait_until_it_listens(begin)
        with grpc.insecure_channel(self.address, CHANNEL_OPTIONS) as channel:
            stub = EntitlementServiceStub(channel)
            stub.ListFeatures(pb.ListFeaturesRequest(), timeout=START_SECONDS, wait_for_ready=True)
        return time.monotonic() - begin

    @property
    def is_up(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for the end of the process."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert status == 0, self.log.read_text("utf-8", "replace")[-2000:]

    def _wait_until_it_listens(self, begin: float) -> None:
        assert self.process is not None
        host, _, port = self.address.rpartition(":")
        while time.monotonic() < begin + START_SECONDS:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            assert self.process.poll() is None, self.log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.005)
        raise AssertionError("The server did not come up.")
