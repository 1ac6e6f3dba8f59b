"""Hostile input: whatever is sent, the server lives, says nothing of itself, and does not grow.

Random bytes and mutated messages to every method of every service, messages that are too large,
calls given up in thousands, watches of health on random names, readers that do not read, and
connections that do not speak HTTP/2. All of it is sent in several passes, and memory must not grow with
them.
"""

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from entitlements.v1 import entitlement_service_pb2 as pb
from faults.figures import Advance, Report, silent
from faults.servers import CHANNEL_OPTIONS, ledger_in
from support.rpc import raw, raw_stream, raw_streams
from support.server_process import ServerProcess

SERVICE = pb.DESCRIPTOR.services_by_name["EntitlementService"]
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNARY = {
    **{f"/{SERVICE.full_name}/{one.name}": one.input_type for one in SERVICE.methods},
    HEALTH + "Check": health_pb2.HealthCheckRequest.DESCRIPTOR,
}
INTERNALS = re.compile(
    r"Traceback|Error\b|Exception|\.py\b|File \"|protobuf|apsw|sqlite|/home|site-packages|0x[0-9a-f]{6}"
)
"""What no status may contain. (Our messages are sentences without the names of classes.)"""

PASSES = 7
"""The first fills caches. Of the others, memory after the later three is held against the earlier three."""

GROWTH = 0.10
"""Share by which it may have grown. After a flood of streams the allocator breathes: from one pass to the
next memory goes up or down by as much as 12%, with nothing lost.
"""


def check(size: int, advance: Advance = silent, *, breaking: str = "", seed: int = 1) -> Report:
    """Send at least `size` messages of each kind to each method."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_Run(Random(seed), Path(folder), breaking).go(size, advance))


class _Run:
    def __init__(self, random: Random, folder: Path, breaking: str) -> None:
        self.random = random
        self.server = ServerProcess("--store", ledger_in(folder), breaking=breaking)
        self.codes: Counter[str] = Counter()
        self.report = Report()

    async def go(self, size: int, advance: Advance) -> Report:
        report = self.report
        with self.server:
            process = psutil.Process(self.server.pid)
            memory = []
            for number in range(PASSES):
                async with grpc.aio.insecure_channel(
                    self.server.address, CHANNEL_OPTIONS
                ) as channel:
                    await self._messages(channel, -(-size // PASSES))
                    await self._streams(channel, size)
                await self._connections(size)
                memory.append(process.memory_info().rss / 2**20)
                advance(size * (number + 1) // PASSES - size * number // PASSES)
            report.require(self.server.is_up, "the server has ended")
            async with grpc.aio.insecure_channel(self.server.address) as channel:
                await raw(channel, HEALTH + "Check")(b"", timeout=30)
        unknown = self.codes["UNKNOWN"] + self.codes["INTERNAL"]
        half = PASSES // 2
        early, late = mean(memory[-2 * half : -half]), mean(memory[-half:])
        growth = late / early - 1
        report.note("calls answered", sum(self.codes.values()))
        report.note("crashes", 0 if not report.problems else "see below", "0")
        report.note("answered UNKNOWN or INTERNAL", unknown, "0")
        report.note("statuses that showed internals", len(report.problems), "0")
        report.note("memory, mean of three passes, MiB", early)
        report.note("growth in the next three", f"{growth:+.1%}", "flat")
        report.require(unknown == 0, f"codes: {dict(self.codes)}")
        report.require(growth < GROWTH, f"memory grew from {early:.0f} to {late:.0f} MiB")
        return report

    async def _messages(self, channel: grpc.aio.Channel, size: int) -> None:
        for number in range(size):
            calls = []
            for path, kind in UNARY.items():
                call = raw(channel, path)
                calls += [
                    self._note(call(self._noise(), timeout=60)),
                    self._note(call(self._mutant(kind), timeout=60)),
                ]
            calls.append(self._note(self._reflect(channel)))
            if number % 50 == 0:
                calls += [
                    self._note(raw(channel, path)(bytes(5 * 2**20), timeout=60)) for path in UNARY
                ]
                calls.append(self._note(raw(channel, "/no.Such/Method")(b"", timeout=60)))
            await asyncio.gather(*calls)

    async def _streams(self, channel: grpc.aio.Channel, size: int) -> None:
        """Thousands of calls at once that are given up, watches, and readers that do not read."""
        calls: list[Any] = [
            raw(channel, f"/{SERVICE.full_name}/ListFeatures")(b"") for _ in range(5 * size)
        ]
        watch = raw_stream(channel, HEALTH + "Watch")
        calls += [watch(b"\x0a\x08" + self._name()) for _ in range(size)]
        stalled = [raw_streams(channel, REFLECTION)() for _ in range(20)]
        ask = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        for call in stalled:
            # More than one connection may have: the surplus ones are ended while they are written to.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for _ in range(20):
                    await call.write(ask)
        await asyncio.sleep(0)
        for call in [*calls, *stalled]:
            call.cancel()
        await asyncio.gather(*(self._note(_end(call)) for call in calls))

    async def _connections(self, size: int) -> None:
        host, _, port = self.server.address.rpartition(":")
        for _ in range(min(size, 200)):
            reader, writer = await asyncio.open_connection(host, int(port))
            start = self.random.choice(
                (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"")
            )
            try:
                writer.write(start + self._noise())
                await writer.drain()
            except ConnectionError:
                pass
            writer.close()
            del reader

    async def _reflect(self, channel: grpc.aio.Channel) -> None:
        call = raw_streams(channel, REFLECTION)(timeout=60)
        await call.write(self._noise())
        await call.done_writing()
        async for _ in call:
            pass

    async def _note(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except asyncio.CancelledError:
            self.codes["given up"] += 1
        except grpc.aio.AioRpcError as error:
            self.codes[error.code().name] += 1
            told = f"{error.details()} {error.trailing_metadata()}"
            if INTERNALS.search(told):
                self.report.problems.append(f"{error.code().name} sent {told[:300]}")
        else:
            self.codes["OK"] += 1

    def _noise(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 3, 20, 300)))

    def _name(self) -> bytes:
        return bytes(self.random.randrange(97, 123) for _ in range(8))

    def _mutant(self, kind: Any) -> bytes:
        """A message with plausible fields, of which some bytes were changed, cut or repeated."""
        data = bytearray()
        for field in kind.fields:
            text = self.random.choice((b"ada", b"", b"\xff\xfe", b"x" * 600, b"1-abc", b"a b\n"))
            if field.type == field.TYPE_STRING:
                data += bytes([field.number << 3 | 2, len(text) & 127]) + text[: len(text) & 127]
            else:
                data += bytes([field.number << 3]) + self.random.randbytes(2)
        for _ in range(self.random.randrange(3)):
            if data:
                data[self.random.randrange(len(data))] = self.random.randrange(256)
        return bytes(data[: self.random.randrange(len(data) + 1)] or data)


async def _end(call: Any) -> None:
    code = await call.code()
    if code is grpc.StatusCode.CANCELLED:
        raise asyncio.CancelledError
