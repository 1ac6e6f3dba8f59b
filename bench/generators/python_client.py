"""A load generator that needs no Go: grpc.aio, a fixed number of calls in flight.

Run by `python.py`; prints its report as JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).parent.parent))
from generators.delimited import read_delimited


async def send(
    messages: list[bytes],
    *,
    address: str,
    token: str,
    call: str,
    in_flight: int,
    connections: int,
    seconds: float,
    rps: int,
) -> None:
    """Send the messages round and round; at most `rps` a second, unless that is 0."""
    following = cycle(messages)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    channels = [
        # Channels of equal arguments would share a connection.
        grpc.aio.insecure_channel(address, options=[("bench.number", number)])
        for number in range(connections)
    ]
    calls: Any = cycle([channel.unary_unary(f"/{call}") for channel in channels])
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    latencies: list[float] = []
    codes: Counter[str] = Counter()
    begin = time.perf_counter()
    end = begin + seconds
    interval = 1 / rps if rps else 0.0
    turns = iter(range(sys.maxsize))

    async def work() -> None:
        while True:
            due = begin + next(turns) * interval
            start = time.perf_counter()
            if interval and due > start:
                await asyncio.sleep(due - start)
                start = time.perf_counter()
            if start >= end:
                return
            code = "OK"
            try:
                await next(calls)(next(following), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            latencies.append(time.perf_counter() - start)
            codes[code] += 1

    await asyncio.gather(*(work() for _ in range(in_flight)))
    rate = len(latencies) / (time.perf_counter() - begin)
    for channel in channels:
        await channel.close()
    print(json.dumps({"rate": rate, "latencies_s": latencies, "codes": codes}))


def main() -> None:
    """Read the arguments, send, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    for name, kind in (("address", str), ("token", str), ("call", str), ("in-flight", int), ("connections", int),
                       ("seconds", float), ("rps", int)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, required=True)
    arguments = vars(parser.parse_args())
    asyncio.run(send(read_delimited(arguments.pop("data")), **arguments))


if __name__ == "__main__":
    main()
