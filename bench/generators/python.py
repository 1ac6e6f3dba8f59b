"""Clients made with grpc.aio, which need no Go: slower than the server, so the rates are theirs."""

import json
import sys
from collections import Counter
from pathlib import Path

from generators.delimited import write_delimited
from generators.load import CONNECTIONS, OK, Calls, Load, Target, output_of

_PROGRAM = Path(__file__).with_name("python_client.py")


class Python:
    """See `Generator`."""

    name = "python"

    async def send(
        self, target: Target, calls: Calls, seconds: float, rps: int, folder: Path
    ) -> Load:
        """See `Generator`."""
        data = folder / "data.bin"
        write_delimited(data, calls.messages)
        output = await output_of([
            sys.executable, str(_PROGRAM), str(data), f"--address={target.address}",
            f"--token={target.token}", f"--call={calls.method}", f"--in-flight={calls.in_flight}",
            f"--connections={min(CONNECTIONS, calls.in_flight)}", f"--seconds={seconds}",
            f"--rps={rps}",
        ])  # fmt: skip
        report = json.loads(output)
        # As ghz names them.
        codes = {
            code if code == OK else code.title().replace("_", ""): count
            for code, count in report["codes"].items()
        }
        return Load(report["rate"], report["latencies_s"], Counter(codes))
