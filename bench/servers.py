"""Servers as processes, and what they take of the machine."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from generators.load import Target
from grpc_health.v1 import health_pb2, health_pb2_grpc
from users import USERS, user_id

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

_HERE = Path(__file__).parent
_LISTENING = "Listening on "
_READY_SECONDS = 60
_WARM_UP_IN_FLIGHT = 64
_QUIET_SHARE = 0.05
_QUIET_LOOK_S = 0.1
_QUIET_LOOKS = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A server that serves.

    Attributes:
        address: Where, as HOST:PORT.
        process: The process that is the server.
        ready_s: Seconds from the process's start until it said, or answered, that it serves.
        others: Processes that belong to it, such as its database. Children always do.
    """

    address: str
    process: psutil.Process
    ready_s: float
    others: tuple[psutil.Process, ...] = ()

    def cpu_s(self) -> float:
        """Seconds of CPU that the server took so far, on all threads of all its processes."""
        total = 0.0
        for parent in (self.process, *self.others):
            times = parent.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
            for child in parent.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    times = child.cpu_times()
                    total += times.user + times.system
        return total

    async def quiet(self) -> None:
        """Wait until the server has little left to do after a load, for three seconds at most."""
        for _ in range(_QUIET_LOOKS):
            before_s = self.cpu_s()
            await asyncio.sleep(_QUIET_LOOK_S)
            if self.cpu_s() - before_s < _QUIET_SHARE * _QUIET_LOOK_S:
                return

    def memory_mib(self) -> float:
        """Return the resident memory, in MiB."""
        return self.process.memory_info().rss / 2**20

    def peak_memory_mib(self) -> float:
        """Return the most memory that was ever resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return self.memory_mib()
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024


@asynccontextmanager
async def serving(store: str, *options: str) -> AsyncIterator[Server]:
    """Run `entitlements-server serve` on a store, with more options, while the block runs."""
    program = str(Path(sys.executable).with_name("entitlements-server"))
    command = (program, "serve", "--listen", "127.0.0.1:0", "--store", store, *options)
    begin = time.monotonic()
    async with _running(command, {}) as (address, process):
        await _ready(address)
        yield Server(address, process, time.monotonic() - begin)


@asynccontextmanager
async def reference(
    name: str,
    *,
    environment: Mapping[str, str] | None = None,
    others: tuple[psutil.Process, ...] = (),
) -> AsyncIterator[Server]:
    """Run a module of references/ while the block runs."""
    begin = time.monotonic()
    command = (sys.executable, "-m", f"references.{name}")
    async with _running(command, environment or {}) as (address, process):
        yield Server(address, process, time.monotonic() - begin, others)


@asynccontextmanager
async def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run a server that says on its standard output where it listens."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_HERE), **environment},
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(_LISTENING.encode()):
                address = line.decode().removeprefix(_LISTENING).split()[0]
                break
        else:
            raise SystemExit(f"The server did not start: {' '.join(command)}")
        yield address, psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def warm_up(target: Target) -> None:
    """Read every account once, as a server that has run for a while has done."""
    users = iter(range(USERS))
    metadata = (("authorization", target.authorization),) if target.token else ()
    async with grpc.aio.insecure_channel(target.address) as channel:
        stub = EntitlementServiceStub(channel)

        async def read() -> None:
            for number in users:
                request = pb.GetAccountRequest(user_id=user_id(number))
                await stub.GetAccount(request, metadata=metadata)

        await asyncio.gather(*(read() for _ in range(_WARM_UP_IN_FLIGHT)))


async def _ready(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(_READY_SECONDS * 1000):
            status = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            if status.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.001)
    raise SystemExit("The server does not become ready.")
