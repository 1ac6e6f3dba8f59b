"""The HTTP load generator of that name, for the service over HTTP: users and keys by a script in Lua."""

import json
import secrets
from collections import Counter
from pathlib import Path

from users import MANY

from generators.h2load import FAILED
from generators.load import OK, Calls, Load, Target, output_of

_SCRIPT = Path(__file__).with_suffix(".lua")


class Wrk:
    """See `Generator`. The messages are its own: charges of as many users, with keys of their own."""

    name = "wrk"

    async def send(
        self,
        target: Target,
        calls: Calls,
        seconds: float,
        rps: int,
        folder: Path,  # noqa: ARG002  # it needs no files
    ) -> Load:
        """See `Generator`; `rps` has to be 0, and each call has a connection, as HTTP/1.1 wants."""
        assert not rps, "wrk knows no rate of calls."
        output = await output_of([
            "wrk", "--threads=2", f"--connections={calls.in_flight}", f"--duration={max(round(seconds), 1)}s",
            f"--script={_SCRIPT}", f"--header=authorization: {target.authorization}",
            f"http://{target.address}/charges", "--", str(MANY), secrets.token_hex(8),
        ])  # fmt: skip
        report = json.loads(output.splitlines()[-1])
        return Load(
            report["calls"] / report["seconds"],
            [us / 1e6 for us, count in report["latencies_us"] for _ in range(count)],
            Counter({OK: report["calls"] - report["failed"], FAILED: report["failed"]}),
        )
