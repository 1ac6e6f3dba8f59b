"""The load generator of that name: it can give each call a message of its own, and decodes the answers."""

import json
from collections import Counter
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from entitlements.v1 import entitlement_service_pb2
from generators.delimited import write_delimited
from generators.load import Calls, Load, Target, output_of


class Ghz:
    """See `Generator`. Its requests are parsed before the clock starts."""

    name = "ghz"

    async def send(
        self, target: Target, calls: Calls, seconds: float, rps: int, folder: Path
    ) -> Load:
        """See `Generator`."""
        contract, data = folder / "contract.protoset", folder / "data.bin"
        contract.write_bytes(_contract())
        write_delimited(data, calls.messages)
        metadata = {"authorization": target.authorization} if target.token else {}
        output = await output_of([
            "ghz", "--insecure", "--format=json", f"--protoset={contract}",
            f"--call={calls.method}", f"--binary-file={data}", f"--metadata={json.dumps(metadata)}",
            f"--concurrency={calls.in_flight}",
            f"--connections={min(target.connections, calls.in_flight)}",
            f"--duration={seconds}s", "--duration-stop=wait", f"--rps={rps}", target.address,
        ])  # fmt: skip
        report = json.loads(output)
        details = report["details"]
        return Load(
            report["rps"],
            [one["latency"] / 1e9 for one in details],
            Counter(one["status"] for one in details),
        )


def _contract() -> bytes:
    """Describe the service that is called, with all that it imports."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        files[file.name] = file

    add(entitlement_service_pb2.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    return described.SerializeToString()
