"""What a call that ends early costs grpc.aio itself, in bytes that never come back.

`python -m faults.upstream_leak` runs a server that does nothing and a client, without any code of this
project, and compares: calls that end well, that pass a deadline, and whose awaiting task is cancelled.
See https://github.com/grpc/grpc/issues/43360.
"""

import asyncio
import gc
import subprocess
import sys
from contextlib import suppress
from random import Random
from typing import Any

import grpc
import psutil

CALLERS = 32
CALLS = 1000
"""Of each caller, after half as many to warm up."""


async def _serve() -> None:
    async def answer(_: bytes, __: Any) -> bytes:
        await asyncio.sleep(0.002)
        return b""

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(answer)
    handler = grpc.method_handlers_generic_handler("nothing.Nothing", {"Do": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201  # the client reads it
    await server.wait_for_termination()


async def _well(do: Any, _: Random) -> None:
    await do(b"")


async def _late(do: Any, _: Random) -> None:
    with suppress(grpc.aio.AioRpcError):
        await do(b"", timeout=0.001)


async def _cancelled(do: Any, random: Random) -> None:
    async def awaited() -> None:
        await do(b"")

    task = asyncio.ensure_future(awaited())
    await asyncio.wait([task], timeout=random.choice((0, 0.001, 0.003)))
    task.cancel()
    await asyncio.wait([task])


def main() -> None:
    """Measure, and print a line for each way in which calls end."""
    with subprocess.Popen(
        [sys.executable, "-m", "faults.upstream_leak", "serve"], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        asyncio.run(_measure(server.pid, int(server.stdout.readline())))
        server.kill()


async def _measure(server_pid: int, port: int) -> None:
    processes = (psutil.Process(server_pid), psutil.Process())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        do = channel.unary_unary("/nothing.Nothing/Do")
        for way in (_well, _late, _cancelled):
            await _call(do, way, CALLS // 2)
            before = [one.memory_info().rss for one in processes]
            await _call(do, way, CALLS)
            gc.collect()
            grown = [
                (one.memory_info().rss - then) / (CALLERS * CALLS)
                for one, then in zip(processes, before, strict=True)
            ]
            print(  # noqa: T201  # its output
                f"{way.__name__[1:]:<10} server {grown[0]:8,.0f}   client {grown[1]:8,.0f}"
                "   bytes a call"
            )


async def _call(do: Any, way: Any, count: int) -> None:
    async def caller(seed: int) -> None:
        random = Random(seed)
        for _ in range(count):
            await way(do, random)

    await asyncio.gather(*(caller(seed) for seed in range(CALLERS)))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
    else:
        main()
