"""Honest callers in a process of their own: they charge while somebody attacks, and count what they see.

`Honest` starts and reads them. The process learns of each new phase by a line on its standard input, and
at the end of the input it prints what became of the calls of each phase.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Annotated, Self
from uuid import uuid4

import grpc
import typer
import uvloop

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.repository import TESTS

if TYPE_CHECKING:
    # Known to type checkers only: at run time both clients have one class.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

CLIENTS = 16
"""Each has a connection and a user of its own, and one call in flight."""

TOKENS = 10**12
DEADLINE_S = 20.0
WARM_UP = "warm-up"
_OPTIONS = (
    # A failure shows as one: gRPC doesn't try again, and no two clients share a connection.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 200),
)


@dataclass(slots=True)
class Phase:
    """What honest callers saw in one phase; a call belongs to the phase in which it began.

    Attributes:
        calls: How many were answered OK.
        seconds: How long the phase was.
        p50_ms: Median latency of all calls, failed ones too.
        p99_ms: The 99th percentile.
        longest_ms: The longest call.
        failures: How often calls ended with each status.
    """

    calls: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    longest_ms: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Calls answered OK a second."""
        return self.calls / max(self.seconds, 0.001)


class Honest:
    """Sixteen callers that charge until they are finished.

    Args:
        address: Of the server.
        rate: Calls a second of all of them together; 0: one after the other, as fast as answers come.
        token: Their bearer token, if the server wants one.
    """

    def __init__(self, address: str, *, rate: float = 0, token: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.honest", address, f"--rate={rate}", f"--token={token}"],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "The honest callers were not served."

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def phase(self, name: str) -> None:
        """Begin a new phase."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Phase]:
        """End the last phase; returns all of them by name."""
        printed, _ = self._process.communicate(timeout=60)
        return {name: Phase(**values) for name, values in json.loads(printed).items()}


class _Callers:
    """The callers of this process."""

    def __init__(self, address: str, rate: float, token: str) -> None:
        self._address = address
        self._step_s = CLIENTS / rate if rate else 0.0
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._name = WARM_UP
        self._begin = time.monotonic()
        self._latencies_s: list[float] = []
        self._phases = {WARM_UP: Phase()}
        self._left = CLIENTS
        self._leaving = False

    async def run(self) -> dict[str, Phase]:
        """Call until the standard input ends."""
        clients = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        while line := await asyncio.to_thread(sys.stdin.readline):
            self._end_phase()
            self._name = line.strip()
            self._phases[self._name] = Phase()
        self._leaving = True
        await asyncio.gather(*clients)
        self._end_phase()
        return self._phases

    def _end_phase(self) -> None:
        now, phase = time.monotonic(), self._phases[self._name]
        phase.seconds, self._begin = now - self._begin, now
        if len(self._latencies_s) > 1:
            cuts = quantiles(self._latencies_s, n=100, method="inclusive")
            phase.p50_ms, phase.p99_ms = cuts[49] * 1000, cuts[98] * 1000
        phase.longest_ms = max(self._latencies_s, default=0.0) * 1000
        self._latencies_s = []

    async def _client(self, number: int) -> None:
        async with grpc.aio.insecure_channel(self._address, _OPTIONS) as channel:
            stub = EntitlementServiceStub(channel)
            user_id = f"honest-{number}"
            await stub.SetBalance(
                pb.SetBalanceRequest(user_id=user_id, balance=TOKENS),
                metadata=self._metadata,
                timeout=30,
                wait_for_ready=True,
            )
            self._left -= 1
            if self._left == 0:
                print("ready", flush=True)  # noqa: T201  # whoever started this waits for it
            due, leaving = time.monotonic(), False
            # Once more at the end: each phase shows whether a caller is served.
            while not leaving:
                leaving = self._leaving
                await self._charge(stub, user_id)
                due = max(due + self._step_s, time.monotonic() - self._step_s)
                await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _charge(self, stub: "EntitlementServiceAsyncStub", user_id: str) -> None:
        phase, begin = self._phases[self._name], time.monotonic()
        request = pb.ConsumeRequest(
            user_id=user_id, feature="full_distribution", idempotency_key=str(uuid4())
        )
        try:
            await stub.Consume(request, timeout=DEADLINE_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            told = f"{error.code().name}: {error.details()}"
            phase.failures[told] = phase.failures.get(told, 0) + 1
            await asyncio.sleep(0.01)
        else:
            phase.calls += 1
        self._latencies_s.append(time.monotonic() - begin)


def main(address: str, *, rate: float = 0, token: Annotated[str, typer.Option()] = "") -> None:
    """Charge until the standard input ends; prints the phases as JSON."""
    phases = uvloop.run(_Callers(address, rate, token).run())
    shown = {
        name: {key: getattr(phase, key) for key in Phase.__slots__}
        for name, phase in phases.items()
    }
    print(json.dumps(shown))  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
