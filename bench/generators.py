"""What sends the calls: ghz where it is installed, else processes of Python that need no Go.

Both read the same file of serialized messages, each behind its length, and report alike.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from grpc_health.v1 import health_pb2
from workloads import Workload

from entitlements.v1 import entitlement_service_pb2

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Load:
    """What a measurement saw.

    Attributes:
        rate: Calls per second.
        latencies_s: Of each call, in seconds; unsorted.
        codes: How many calls ended with each status code.
    """

    rate: float
    latencies_s: list[float]
    codes: Counter[str]

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return len(self.latencies_s)


class Generator(Protocol):
    """Sends calls of one method."""

    name: str

    def command(self, call: str, data: Path, in_flight: int, seconds: float, rps: int) -> list[str]:
        """Return the program that does it, and writes its report to standard output."""

    def read(self, report: Any) -> Load:
        """Read that report."""


class Ghz:
    """The load generator of that name. Its requests are parsed before the clock starts."""

    name = "ghz"

    def __init__(self, address: str, connections: int) -> None:
        self._address = address
        self._connections = connections

    def command(self, call: str, data: Path, in_flight: int, seconds: float, rps: int) -> list[str]:
        """See the protocol."""
        contract = data.with_suffix(".protoset")
        contract.write_bytes(_contract())
        connections = min(self._connections, in_flight)
        return [
            "ghz", "--insecure", "--format=json", f"--protoset={contract}", f"--call={call}",
            f"--binary-file={data}", f"--concurrency={in_flight}", f"--connections={connections}",
            f"--duration={seconds}s", "--duration-stop=wait", f"--rps={rps}", self._address,
        ]  # fmt: skip

    def read(self, report: Any) -> Load:
        """See the protocol."""
        calls = report["details"]
        return Load(
            report["rps"],
            [one["latency"] / 1e9 for one in calls],
            Counter(one["status"] for one in calls),
        )


class PythonGenerator:
    """Clients made with grpc.aio: slower than the server, so the rates are theirs, not its."""

    name = "python"

    def __init__(self, address: str, connections: int) -> None:
        self._address = address
        self._connections = connections

    def command(self, call: str, data: Path, in_flight: int, seconds: float, rps: int) -> list[str]:
        """See the protocol."""
        return [
            sys.executable, str(_HERE / "python_client.py"), str(data),
            f"--address={self._address}", f"--call={call}", f"--in-flight={in_flight}",
            f"--connections={self._connections}", f"--seconds={seconds}", f"--rps={rps}",
        ]  # fmt: skip

    def read(self, report: Any) -> Load:
        """See the protocol."""
        return Load(report["rate"], report["latencies_s"], Counter(report["codes"]))


def generator(address: str, connections: int) -> Generator:
    """Return the best generator that is there."""
    kind = Ghz if shutil.which("ghz") else PythonGenerator
    return kind(address, connections)


async def run(generator: Generator, workload: Workload, seconds: float, rps: int = 0) -> Load:
    """Send the calls of all streams at the same time.

    Args:
        generator: Sends them.
        workload: What to send.
        seconds: For how long.
        rps: Calls per second, or 0 for as many as are answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = []
        for number, stream in enumerate(workload.streams):
            data = Path(folder) / f"{number}.bin"
            data.write_bytes(_delimited(stream.make(seconds)))
            commands.append(generator.command(stream.method, data, stream.in_flight, seconds, rps))
        loads = await asyncio.gather(*(_run(generator, command) for command in commands))
    return Load(
        sum(load.rate for load in loads),
        [one for load in loads for one in load.latencies_s],
        sum((load.codes for load in loads), Counter()),
    )


def _contract() -> bytes:
    """Describe the services that are called, with all that they import."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        files[file.name] = file

    add(entitlement_service_pb2.DESCRIPTOR)
    add(health_pb2.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString()


async def _run(generator: Generator, command: list[str]) -> Load:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"The load generator failed: {' '.join(command)}")
    return generator.read(json.loads(output))


def _delimited(messages: Iterable[bytes]) -> bytes:
    return b"".join(_VarintBytes(len(message)) + message for message in messages)
