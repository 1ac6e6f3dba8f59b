"""Three times the load that the server carries: what it accepts, how it refuses, whether it lives.

    bench/overload.py --seconds 60

Callers in a closed loop, as many as the server works on at once, give the peak rate. Then three
times as many call, and wait as long as each refusal's pushback says, as gRPC's own retries do.
Besides, someone asks for health once every tenth of a second on a connection of its own.
"""

import asyncio
import multiprocessing
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import grpc
import typer
from filling import fill
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers import Server, serving
from users import USERS, user_id

from entitlements.v1 import entitlement_service_pb2 as pb

_CONSUME = "/entitlements.v1.EntitlementService/Consume"
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What one process does: so many callers, who heed the pushback or do not."""

    address: str
    callers: int
    patient: bool


@dataclass(slots=True)
class Tally:
    """What callers saw.

    Attributes:
        accepted: Calls that were charged or denied, not refused.
        refused: Calls refused with a pushback.
        bare: Calls refused without one.
        others: Calls that ended otherwise, by code.
    """

    accepted: int = 0
    refused: int = 0
    bare: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """Add what other callers saw."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.bare += other.bare
        self.others += other.others


def overload(
    *,
    seconds: Annotated[float, typer.Option(help="Length of the overload.")] = 60.0,
    in_flight: Annotated[int, typer.Option(help="Calls that the server works on at once.")] = 256,
    times: Annotated[int, typer.Option(help="How much more load than that.")] = 3,
    patient: Annotated[bool, typer.Option(help="Whether callers heed the pushback.")] = True,
    processes: Annotated[int, typer.Option(help="Processes that call.")] = 2,
) -> None:
    """Print what was accepted and refused, and the longest wait for health."""
    asyncio.run(_overload(seconds, in_flight, times, patient, processes))


async def _overload(
    seconds: float, in_flight: int, times: int, patient: bool, processes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.sqlite"
        await fill(ledger, 0, lambda _: None)
        store = f"sqlite://{ledger}"
        options = ("--max-in-flight", str(in_flight), "--log-format", "json")
        async with serving(store, *options) as server:
            await _load(server, 5, in_flight, patient, processes)
            peaks: list[float] = []
            work: list[float] = []

            async def peak() -> None:
                before_s = server.cpu_s()
                seen, took_s, _ = await _load(
                    server, max(seconds / 6, 3), in_flight, patient, processes
                )
                peaks.append(seen.accepted / took_s)
                work.append(seen.accepted / (server.cpu_s() - before_s))

            # Before and after: the machine may have become quicker or slower in between.
            await peak()
            await peak()
            before_mib, before_s = server.memory_mib(), server.cpu_s()
            tally, took_s, health_s = await _load(
                server, seconds, times * in_flight, patient, processes
            )
            rate, cpu_s = tally.accepted / took_s, server.cpu_s() - before_s
            after_mib = server.memory_mib()
            await peak()
            await peak()
            typer.echo(f"peak at {in_flight} callers: {[round(one) for one in peaks]} calls/s")
            typer.echo(f"at {times * in_flight} callers for {took_s:.0f} s: {rate:.0f} calls/s")
            typer.echo(
                f"accepted of the peak: {rate / median(peaks):.2f};"
                f" for each second of the server's CPU: {tally.accepted / cpu_s / median(work):.2f}"
            )
            typer.echo(
                f"refused with pushback: {tally.refused}, without: {tally.bare},"
                f" others: {dict(tally.others)}"
            )
            ordered = sorted(health_s)
            typer.echo(
                f"health: {len(ordered)} answers, median {ordered[len(ordered) // 2]:.3f} s,"
                f" longest {ordered[-1]:.3f} s"
            )
            typer.echo(
                f"memory: {before_mib:.0f} MiB before, {after_mib:.0f} after,"
                f" at most {server.peak_memory_mib():.0f}"
            )
        program = str(Path(sys.executable).with_name("entitlements-server"))
        verified = subprocess.run(  # noqa: ASYNC221  # nothing else is to be done
            [program, "verify", "--store", store], capture_output=True, text=True, check=False
        )
        typer.echo(f"verify: exit {verified.returncode}, {verified.stdout.strip()}")


async def _load(
    server: Server, seconds: float, callers: int, patient: bool, processes: int
) -> tuple[Tally, float, list[float]]:
    """Let so many callers call; returns what they saw, for how long, and health's waits."""
    context = multiprocessing.get_context("spawn")
    results: Queue[Tally] = context.Queue()
    start, stop = context.Barrier(processes + 1), context.Event()
    started = [
        context.Process(
            target=_process,
            args=(Plan(server.address, callers // processes, patient), start, stop, results),
        )
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    await asyncio.to_thread(start.wait)
    begin = time.monotonic()
    health_s = await _ask_health(server.address, seconds)
    stop.set()
    took_s = time.monotonic() - begin
    total = Tally()
    for _ in started:
        total.add(await asyncio.to_thread(results.get))
    for process in started:
        process.join()
    return total, took_s, health_s


async def _ask_health(address: str, seconds: float) -> list[float]:
    waits: list[float] = []
    end = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            begin = time.monotonic()
            await health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            waits.append(time.monotonic() - begin)
            await asyncio.sleep(0.1)
    return waits


def _process(plan: Plan, start: Barrier, stop: Event, results: "Queue[Tally]") -> None:
    results.put(asyncio.run(_call(plan, start, stop)))


async def _call(plan: Plan, start: Barrier, stop: Event) -> Tally:
    tally = Tally()
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(plan.address, options) for _ in range(_CONNECTIONS)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    await asyncio.to_thread(start.wait)

    async def call(number: int) -> None:
        consume: Any = channels[number % _CONNECTIONS].unary_unary(_CONSUME)
        while not stop.is_set():
            request = pb.ConsumeRequest(
                user_id=user_id(random.randrange(USERS)),
                feature="full_distribution",
                idempotency_key=secrets.token_hex(16),
            )
            try:
                await consume(request.SerializeToString())
            except grpc.aio.AioRpcError as error:
                delay_s = _note(tally, error)
                if plan.patient:
                    # gRPC adds a jitter of its own; without one all come back at once.
                    await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))
            else:
                tally.accepted += not stop.is_set()

    await asyncio.gather(*(call(number) for number in range(plan.callers)))
    for channel in channels:
        await channel.close()
    return tally


def _note(tally: Tally, error: grpc.aio.AioRpcError) -> float:
    """Count a call that failed; returns the seconds that it has to wait."""
    pushback = dict(error.trailing_metadata()).get("grpc-retry-pushback-ms")
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        tally.others[error.code().name] += 1
    elif pushback is None:
        tally.bare += 1
    else:
        tally.refused += 1
        return int(pushback) / 1000
    return 0.1


if __name__ == "__main__":
    typer.run(overload)
