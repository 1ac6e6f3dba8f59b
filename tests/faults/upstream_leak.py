"""What a call that ends early costs grpc.aio, in bytes that its server never frees.

`python -m faults.upstream_leak` asks the allocator of a server that does nothing, before and after
thousands of calls of which a tenth are given up: first of a bare server of grpc.aio, then of one that
holds its calls as the product does. See https://github.com/grpc/grpc/issues/43360 and
`entitlements_server/service/tasks.py`. It takes glibc.
"""

import asyncio
import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import grpc
import psutil

from entitlements_server.service.tasks import hold_call, make_call_tasks, release_call

CALLERS = 32
CALLS = 600
"""Of each caller in a round; a round of half as many warms up."""

ROUNDS = 3
GIVEN_UP = 0.1


def in_use() -> int:
    """Count the bytes that this process has from malloc and has not freed."""
    gc.collect()
    libc = ctypes.CDLL("libc.so.6")
    libc.fopen.restype = ctypes.c_void_p
    libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.fclose.argtypes = [ctypes.c_void_p]
    with tempfile.NamedTemporaryFile("r") as file:
        stream = libc.fopen(file.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        text = Path(file.name).read_text("utf-8")
    # The arenas' own lines come first, the sum over all of them last.
    total = text[text.rindex("</heap>") :]

    def sizes(kind: str) -> int:
        return sum(map(int, re.findall(rf'type="(?:{kind})" [^/]*?size="(\d+)"', total)))

    return sizes("current") - sizes("fast|rest") + sizes("mmap")


class _Service(grpc.GenericRpcHandler):
    """Answers after two milliseconds, and tells what is in use."""

    def __init__(self, *, held: bool) -> None:
        self._held = held
        self._methods: dict[str, Any] = {
            f"/nothing.Nothing/{name}": grpc.unary_unary_rpc_method_handler(behaviour)
            for name, behaviour in (("Do", self._do), ("InUse", self._in_use))
        }

    def service(self, handler_call_details: Any) -> Any:
        if self._held:
            hold_call()
        return self._methods[handler_call_details.method]

    async def _do(self, _: bytes, __: Any) -> bytes:
        if self._held:
            release_call()
        await asyncio.sleep(0.002)
        return bytes(300)

    async def _in_use(self, _: bytes, __: Any) -> bytes:
        if self._held:
            release_call()
        return str(in_use()).encode()


async def _serve(*, held: bool) -> None:
    if held:
        make_call_tasks(asyncio.get_running_loop())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Service(held=held),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201  # the client reads it
    await server.wait_for_termination()


async def _late(do: Any, random: Random) -> None:
    with suppress(grpc.aio.AioRpcError):
        await do(bytes(100), timeout=random.choice((0.001, 0.003, 0.006)))


async def _cancelled(do: Any, random: Random) -> None:
    call = do(bytes(100))
    waiting = asyncio.ensure_future(call.code())
    await asyncio.wait([waiting], timeout=random.choice((0, 0.001, 0.003)))
    call.cancel()
    await waiting


def main() -> None:
    """Measure, and print a line for each round."""
    for held in ("bare", "held"):
        for give_up in (_late, _cancelled):
            with subprocess.Popen(
                [sys.executable, "-m", "faults.upstream_leak", held],
                stdout=subprocess.PIPE,
                # Else Python's own allocator keeps freed memory for itself.
                env={**os.environ, "PYTHONMALLOC": "malloc"},
            ) as server:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                asyncio.run(_measure(f"{held} {give_up.__name__[1:]}", port, give_up))
                server.kill()


async def _measure(name: str, port: int, give_up: Any) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        do: Any = channel.unary_unary("/nothing.Nothing/Do")
        tell: Any = channel.unary_unary("/nothing.Nothing/InUse")
        await _call(do, give_up, CALLS // 2)
        for _ in range(ROUNDS):
            before, client = int(await tell(b"")), psutil.Process().memory_info().rss
            given_up = await _call(do, give_up, CALLS)
            grown = (int(await tell(b"")) - before) / given_up
            client_grown = (psutil.Process().memory_info().rss - client) / given_up
            print(  # noqa: T201  # its output
                f"{name:<16} {given_up:>6,} given up: {grown:6,.0f} bytes each in the server,"
                f" {client_grown:8,.0f} in the client"
            )


async def _call(do: Any, give_up: Any, count: int) -> int:
    """Make calls, and return how many were given up."""
    given_up = 0

    async def caller(seed: int) -> None:
        nonlocal given_up
        random = Random(seed)
        for _ in range(count):
            if random.random() < GIVEN_UP:
                given_up += 1
                await give_up(do, random)
            else:
                await do(bytes(100))

    await asyncio.gather(*(caller(seed) for seed in range(CALLERS)))
    await asyncio.sleep(0.5)  # what was given up last is still on its way out
    return given_up


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(_serve(held=sys.argv[1] == "held"))
    else:
        main()
