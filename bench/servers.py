"""The real server as a process, and what it takes of the machine."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from filling import USERS, user_id
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

_READY_SECONDS = 60
_WARM_UP_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Server:
    """A server that serves.

    Attributes:
        address: Where, as HOST:PORT.
        process: The process that is the server.
        ready_s: Seconds from the process's start until it answered that it serves.
    """

    address: str
    process: psutil.Process
    ready_s: float

    def cpu_s(self) -> float:
        """Seconds of CPU that the server took so far, on all its threads."""
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        """Tell the resident memory, in MiB."""
        return self.process.memory_info().rss / 2**20

    def peak_memory_mib(self) -> float:
        """Tell the most memory that was ever resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return self.memory_mib()
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024


@asynccontextmanager
async def serving(store: str, *options: str) -> AsyncIterator[Server]:
    """Run `entitlements-server serve` on a store, with more options, while the block runs."""
    begin = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("entitlements-server")),
        *("serve", "--listen", "127.0.0.1:0", "--store", store, *options),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        if not line:
            raise SystemExit("The server did not start.")
        address = line.rsplit(maxsplit=1)[-1]
        await _ready(address)
        yield Server(address, psutil.Process(process.pid), time.monotonic() - begin)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def warm_up(server: Server) -> None:
    """Read every account once, as a server that has run for a while has done."""
    users = iter(range(USERS))
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = EntitlementServiceStub(channel)

        async def read() -> None:
            for number in users:
                await stub.GetAccount(pb.GetAccountRequest(user_id=user_id(number)))

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
