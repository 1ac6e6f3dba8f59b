"""Charges by the hundred thousand, sent by ghz, so that a client in Python doesn't hold the server back.

A tenth of a volley has a deadline that most of it doesn't meet. Besides, a few calls lose their
connection.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]

from entitlements.v1 import entitlement_service_pb2 as pb
from faults.cuts import cut

METHOD = "entitlements.v1.EntitlementService.Consume"
HURRIED = 0.11
"""Share of the calls that have a deadline; as some meet it, a tenth of all calls are given up."""

DEADLINES_MS = (1, 2, 4)
"""One after another, a volley each. A charge among a hundred others takes longer."""

IN_FLIGHT, HURRIED_IN_FLIGHT = 112, 16
CUT = 16
"""Calls of each volley that lose their connection."""

CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a volley.

    Attributes:
        patient: How calls without a deadline ended, by status.
        hurried: Those with one.
        cut: How many calls lost their connection before they were answered.
    """

    patient: Counter[str]
    hurried: Counter[str]
    cut: int

    @property
    def given_up(self) -> int:
        """How many calls nobody waited for in the end."""
        return self.hurried.total() - self.hurried["OK"] + self.cut


class Volleys:
    """Sends volleys to one server, each call under a key of its own.

    Args:
        address: Of the server, as HOST:PORT.
        folder: For files.
        users: How many users are charged: `user-0` and so on.
    """

    def __init__(self, address: str, folder: Path, users: int) -> None:
        self._address, self._folder, self._users = address, folder, users
        self._random = Random(1)
        self._fired = 0
        self._rate = 0.0  # of the volley before; 0 is as fast as can be
        (folder / "contract.protoset").write_bytes(_contract())

    async def fire(self, size: int) -> Seen:
        """Send so many calls, and wait until all have ended; a generator that fails is an error."""
        hurried = round(size * HURRIED)
        deadline = f"{DEADLINES_MS[self._fired % len(DEADLINES_MS)]}ms"
        self._fired += 1
        patient = size - hurried - CUT
        # Those in a hurry end sooner than the others, and are to last as long.
        pace = round(self._rate * hurried / patient)
        seen = await asyncio.gather(
            self._timed("patient", patient, IN_FLIGHT),
            self._ghz(
                "hurried", hurried, HURRIED_IN_FLIGHT, f"--timeout={deadline}", f"--rps={pace}"
            ),
            cut(
                self._address, [self._charge() for _ in range(CUT)], self._random.uniform(0, 0.005)
            ),
        )
        return Seen(*seen)

    async def _timed(self, name: str, size: int, in_flight: int) -> Counter[str]:
        begin = time.monotonic()
        ended = await self._ghz(name, size, in_flight, "--timeout=0")
        self._rate = size / (time.monotonic() - begin)
        return ended

    async def _ghz(self, name: str, size: int, in_flight: int, *options: str) -> Counter[str]:
        data = self._folder / f"{name}.bin"
        await asyncio.to_thread(data.write_bytes, b"".join(self._delimited(size)))
        process = await asyncio.create_subprocess_exec(
            program(), "--insecure", "--format=json", f"--call={METHOD}",
            f"--protoset={self._folder}/contract.protoset", f"--binary-file={data}",
            f"--total={size}", f"--concurrency={in_flight}", f"--connections={CONNECTIONS}",
            *options, self._address,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, f"ghz failed with status {process.returncode}."
        report: dict[str, Any] = json.loads(output)
        return Counter(report["statusCodeDistribution"])

    def _delimited(self, size: int) -> Iterator[bytes]:
        for _ in range(size):
            message = self._charge()
            yield _VarintBytes(len(message))
            yield message

    def _charge(self) -> bytes:
        request = pb.ConsumeRequest(
            user_id=f"user-{self._random.randrange(self._users)}",
            feature="full_distribution",
            idempotency_key=secrets.token_hex(16),
        )
        return request.SerializeToString()


def program() -> str:
    """Return the path of ghz, which has to be installed."""
    found = shutil.which("ghz", path=f"{os.environ['PATH']}:{Path.home() / 'go/bin'}")
    if found is None:
        raise FileNotFoundError("The soak's calls are sent by ghz, which isn't installed.")
    return found


def _contract() -> bytes:
    """Describe the service, with all that it imports."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        files[file.name] = file

    add(pb.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString()
