"""What is asked of the server: each workload as streams of calls with their messages made ready.

All messages are serialized before a measurement begins, so that the generator's work per call is
the same for a workload and for the floor.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from filling import FIRST_KEY, USERS, user_id
from grpc_health.v1 import health_pb2

from entitlements.v1 import entitlement_service_pb2 as pb

SERVICE = "entitlements.v1.EntitlementService"
FEATURES = ("full_distribution", "scenario_extremes", "comparative_analysis")
IN_FLIGHT = 128

_serial = count()


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls of one method.

    Attributes:
        method: Its full name, as `package.Service/Method`.
        messages: Yields serialized requests for ever.
        in_flight: Calls that wait for their answers at any time.
        most_per_second: More calls than any server here answers; so many messages are made.
    """

    method: str
    messages: Callable[[], Iterator[bytes]]
    in_flight: int = IN_FLIGHT
    most_per_second: int = 10_000

    def make(self, seconds: float) -> list[bytes]:
        """Make enough messages for a measurement."""
        return list(islice(self.messages(), int(self.most_per_second * seconds)))


@dataclass(frozen=True, slots=True)
class Workload:
    """Streams that run at the same time, under a name. A call may stand for several charges."""

    name: str
    streams: tuple[Stream, ...]
    charges: int = 1

    def floor(self) -> "Workload":
        """Return the floor with the same streams and as much in flight."""
        return Workload("floor", tuple(Stream(*_CHECK, one.in_flight, 1) for one in self.streams))


def _check() -> Iterator[bytes]:
    while True:
        yield health_pb2.HealthCheckRequest().SerializeToString()


_CHECK = ("grpc.health.v1.Health/Check", _check)


def _charge(user: str) -> pb.ConsumeRequest:
    """Build a charge with a key of its own; as long as the UUIDs that clients send."""
    return pb.ConsumeRequest(
        user_id=user,
        feature=random.choice(FEATURES),
        event_id=f"event-{next(_serial) % 1000}",
        idempotency_key=f"{next(_serial):08x}-{secrets.token_hex(14)}",
    )


def _anyone() -> str:
    return user_id(random.randrange(USERS))


def consumes() -> Iterator[bytes]:
    """Charge anyone, each time under a new key."""
    while True:
        yield _charge(_anyone()).SerializeToString()


def charges_of(users: int) -> Stream:
    """Charge the first so many users, at random."""

    def charges() -> Iterator[bytes]:
        while True:
            yield _charge(user_id(random.randrange(users))).SerializeToString()

    return Stream(_CONSUME, charges)


def _hot() -> Iterator[bytes]:
    while True:
        yield _charge(user_id(0)).SerializeToString()


def _replay() -> Iterator[bytes]:
    while True:
        request = pb.ConsumeRequest(
            user_id=_anyone(), feature="full_distribution", idempotency_key=FIRST_KEY
        )
        yield request.SerializeToString()


def _denied() -> Iterator[bytes]:
    while True:
        yield _charge(f"poor-{random.randrange(USERS)}").SerializeToString()


def _access() -> Iterator[bytes]:
    while True:
        request = pb.CheckAccessRequest(user_id=_anyone(), feature=random.choice(FEATURES))
        yield request.SerializeToString()


def _history() -> Iterator[bytes]:
    while True:
        yield pb.ListTransactionsRequest(user_id=_anyone(), page_size=20).SerializeToString()


def batches(size: int) -> Callable[[], Iterator[bytes]]:
    """Charge anyone, `size` times in each call."""

    def endless() -> Iterator[bytes]:
        while True:
            requests = [_charge(_anyone()) for _ in range(size)]
            yield pb.BatchConsumeRequest(requests=requests).SerializeToString()

    return endless


def batch_workload(size: int, in_flight: int) -> Workload:
    """Charge anyone, `size` times in each call."""
    stream = Stream(f"{SERVICE}/BatchConsume", batches(size), in_flight, max(100_000 // size, 100))
    return Workload(f"BatchConsume of {size}", (stream,), size)


_CONSUME = f"{SERVICE}/Consume"

CONSUME = Workload("Consume, 10,000 users", (Stream(_CONSUME, consumes),))
HOT_USER = Workload("Consume, one hot user", (Stream(_CONSUME, _hot),))
REPLAYS = Workload("Consume, replays", (Stream(_CONSUME, _replay),))
DENIALS = Workload("Consume, denials", (Stream(_CONSUME, _denied),))
CHECK_ACCESS = Workload("CheckAccess", (Stream(f"{SERVICE}/CheckAccess", _access),))
# As many in flight as the queue of the server takes without refusing any.
BATCHES = (batch_workload(10, 64), batch_workload(100, 16), batch_workload(1000, 4))
MIXED = Workload(
    "mixed",
    (
        Stream(f"{SERVICE}/CheckAccess", _access, 64),
        Stream(_CONSUME, consumes, 48),
        Stream(_CONSUME, _replay, 4),
        Stream(_CONSUME, _denied, 4),
        Stream(f"{SERVICE}/ListTransactions", _history, 8),
    ),
)

WORKLOADS = {
    "consume": CONSUME,
    "hot": HOT_USER,
    "replays": REPLAYS,
    "denials": DENIALS,
    "access": CHECK_ACCESS,
    "batch10": BATCHES[0],
    "batch100": BATCHES[1],
    "batch1000": BATCHES[2],
    "mixed": MIXED,
}
"""By the word that chooses it on the command line."""
