"""The HTTP/2 load generator of nghttp2: it costs the least a call, and sends the same bytes each time."""

import re
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from generators.load import CONNECTIONS, OK, Calls, Load, Target, output_of

_PREFIX = struct.Struct(">BI")
"""Of a gRPC message: not compressed, and how long it is."""

_RATE = re.compile(r"finished in \S+, ([\d.]+) req/s")
_DONE = re.compile(r"(\d+) done, (\d+) succeeded")
_DATA = re.compile(r"\((\d+)\) data")
FAILED = "failed"


class H2load:
    """See `Generator`. It sends the first message only, and as fast as it is answered.

    It doesn't read gRPC's status. But an answer has a message and an error has none, so the bytes that
    came tell how many calls were answered. To know how long an answer is, one call is made before.
    """

    name = "h2load"

    async def send(
        self, target: Target, calls: Calls, seconds: float, rps: int, folder: Path
    ) -> Load:
        """See `Generator`; `rps` has to be 0."""
        assert not rps, "h2load knows no rate of calls."
        body, log = folder / "body", folder / "log"
        body.write_bytes(_PREFIX.pack(0, len(calls.messages[0])) + calls.messages[0])
        answer = await _answer(target, calls)
        headers = ["content-type: application/grpc", "te: trailers"]
        if target.token:
            headers.append(f"authorization: {target.authorization}")
        output = await output_of([
            "h2load", f"--clients={CONNECTIONS}",
            f"--max-concurrent-streams={calls.in_flight // CONNECTIONS}",
            f"--duration={round(1000 * seconds)}ms", f"--data={body}", f"--log-file={log}",
            *(f"--header={header}" for header in headers),
            f"http://{target.address}/{calls.method}",
        ])  # fmt: skip
        report = output.decode()
        rate, (done, succeeded), data = (
            _found(pattern, report) for pattern in (_RATE, _DONE, _DATA)
        )
        answered = min(round(int(data[0]) / (_PREFIX.size + len(answer))), int(succeeded))
        # Answers differ by a few bytes: what is within a hundredth is that.
        failed = int(done) - answered if answered < 0.99 * int(done) else 0
        return Load(
            float(rate[0]),
            [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()],
            Counter({OK: int(done) - failed, FAILED: failed}),
        )


def _found(pattern: re.Pattern[str], report: str) -> tuple[str, ...]:
    found = pattern.search(report)
    if found is None:
        raise SystemExit(f"h2load reported something else than expected: {report}")
    return found.groups()


async def _answer(target: Target, calls: Calls) -> bytes:
    """Make one such call; an error ends the measurement."""
    metadata = (("authorization", target.authorization),) if target.token else ()
    async with grpc.aio.insecure_channel(target.address) as channel:
        call: Any = channel.unary_unary(f"/{calls.method}")
        answer: bytes = await call(calls.messages[0], metadata=metadata)
        return answer
