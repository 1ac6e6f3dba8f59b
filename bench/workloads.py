"""What is asked of the servers: each workload as streams of calls with their messages made ready.

All messages are serialized before a measurement begins, and every server is sent the same.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from generators.load import OK, Calls
from users import FIRST_KEY, MANY, USERS, user_id

from entitlements.v1 import entitlement_service_pb2 as pb

SERVICE = "entitlements.v1.EntitlementService"
CONSUME_METHOD = f"{SERVICE}/Consume"
FEATURES = ("full_distribution", "scenario_extremes", "comparative_analysis")
IN_FLIGHT = 128
PACE = 2000
"""Calls per second of the measurement of latency."""

GRPC_AIO = "empty grpc.aio"
COMPLETION_QUEUE = "empty completion queue"
FASTAPI = "FastAPI + PostgreSQL"

_ANSWERED_BY_NOTHING = 1000
"""Messages for the empty servers, where those of the workload would get another kind of answer."""

DENIED = "FailedPrecondition"
_serial = count()


@dataclass(frozen=True, slots=True)
class Stream:
    """Calls of one method.

    Attributes:
        method: Its full name, as `package.Service/Method`.
        messages: Yields serialized requests for ever.
        in_flight: Calls that wait for their answers at any time.
        most_per_second: More calls than the service answers; so many messages are made.
        once: Whether no message may be sent twice.
    """

    method: str
    messages: Callable[[], Iterator[bytes]]
    in_flight: int = IN_FLIGHT
    most_per_second: int = 20_000
    once: bool = False

    def make(self, seconds: float) -> Calls:
        """Make enough messages for a measurement."""
        messages = list(islice(self.messages(), max(int(self.most_per_second * seconds), 1)))
        return Calls(self.method, messages, self.in_flight, self.once)


@dataclass(frozen=True, slots=True)
class Workload:
    """Streams that run at the same time.

    Attributes:
        name: As the report has it.
        streams: What is sent.
        charges: How many charges a call stands for.
        generator: The name of the program that sends it.
        beside: The references that it is measured beside.
        rps: Calls per second, or 0 for as many as are answered.
        codes: How calls may end.
    """

    name: str
    streams: tuple[Stream, ...]
    charges: int = 1
    generator: str = "ghz"
    beside: tuple[str, ...] = (GRPC_AIO,)
    rps: int = 0
    codes: frozenset[str] = frozenset({OK})

    def make(self, seconds: float) -> list[Calls]:
        """Make the messages of a measurement of so many seconds."""
        return [stream.make(seconds) for stream in self.streams]

    def for_empty(self, made: Sequence[Calls]) -> list[Calls]:
        """Return what an empty server is sent: as much, and answered by what it has.

        It answers with a charge, and ghz decodes that, so ghz asks it for charges.
        """
        return [
            replace(calls, once=False)
            if self.generator == "h2load" or calls.method == CONSUME_METHOD
            else Calls(
                CONSUME_METHOD, list(islice(consumes(), _ANSWERED_BY_NOTHING)), calls.in_flight
            )
            for calls in made
        ]


def _charge(user: str) -> pb.ConsumeRequest:
    """Build a charge with a key of its own; as long as the UUIDs that clients send."""
    return pb.ConsumeRequest(
        user_id=user,
        feature=random.choice(FEATURES),
        event_id=f"event-{next(_serial) % 1000}",
        idempotency_key=f"{next(_serial):08x}-{secrets.token_hex(14)}",
    )


def _anyone(users: int = MANY) -> str:
    return user_id(random.randrange(users))


def consumes() -> Iterator[bytes]:
    """Charge the first MANY users, at random, each time under a new key."""
    return _charges_of(MANY)


def _charges_of(users: int) -> Iterator[bytes]:
    while True:
        yield _charge(_anyone(users)).SerializeToString()


def charges_of(users: int) -> Stream:
    """Charge the first so many users, at random."""
    return Stream(CONSUME_METHOD, lambda: _charges_of(users), once=True)


def _without_key() -> Iterator[bytes]:
    """Charge one user without a key, so that the same bytes are a new charge each time."""
    request = pb.ConsumeRequest(user_id=user_id(0), feature=FEATURES[0], event_id="event-1")
    while True:
        yield request.SerializeToString()


def _replay() -> Iterator[bytes]:
    while True:
        request = pb.ConsumeRequest(
            user_id=_anyone(USERS), feature="full_distribution", idempotency_key=FIRST_KEY
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


def _batches(size: int) -> Callable[[], Iterator[bytes]]:
    def endless() -> Iterator[bytes]:
        while True:
            requests = [_charge(_anyone(USERS)) for _ in range(size)]
            yield pb.BatchConsumeRequest(requests=requests).SerializeToString()

    return endless


def batch_workload(size: int, in_flight: int) -> Workload:
    """Charge anyone, `size` times in each call."""
    most = max(100_000 // size, 100)
    stream = Stream(f"{SERVICE}/BatchConsume", _batches(size), in_flight, most, once=True)
    return Workload(f"BatchConsume of {size}", (stream,), size)


CONSUME = Workload("Consume", (charges_of(MANY),), beside=(GRPC_AIO, FASTAPI))
PACED = Workload(
    f"Consume at {PACE:,}/s",
    (replace(charges_of(MANY), most_per_second=2 * PACE),),
    rps=PACE,
)
ACCESS = Workload(
    "CheckAccess",
    (Stream(f"{SERVICE}/CheckAccess", _access, most_per_second=1),),
    generator="h2load",
)
KEYLESS = Workload(
    "Consume, no keys",
    (Stream(CONSUME_METHOD, _without_key, most_per_second=1),),
    generator="h2load",
    beside=(GRPC_AIO, COMPLETION_QUEUE),
)
SPREAD = Workload("Consume, 10,000 users", (charges_of(USERS),))
HOT_USER = Workload("Consume, one hot user", (charges_of(1),))
REPLAYS = Workload("Consume, replays", (Stream(CONSUME_METHOD, _replay),))
DENIALS = Workload(
    "Consume, denials", (Stream(CONSUME_METHOD, _denied, once=True),), codes=frozenset({DENIED})
)
# As many in flight as the queue of the server takes without refusing any.
BATCHES = {
    size: batch_workload(size, in_flight) for size, in_flight in ((10, 64), (100, 16), (1000, 4))
}
MIXED = Workload(
    "mixed",
    (
        Stream(f"{SERVICE}/CheckAccess", _access, 64),
        Stream(CONSUME_METHOD, consumes, 48, once=True),
        Stream(CONSUME_METHOD, _replay, 4),
        Stream(CONSUME_METHOD, _denied, 4, once=True),
        Stream(f"{SERVICE}/ListTransactions", _history, 8),
    ),
    codes=frozenset({OK, DENIED}),
)

WORKLOADS = {
    "consume": CONSUME,
    "paced": PACED,
    "access": ACCESS,
    "keyless": KEYLESS,
    "spread": SPREAD,
    "hot": HOT_USER,
    "replays": REPLAYS,
    "denials": DENIALS,
    "batch10": BATCHES[10],
    "batch100": BATCHES[100],
    "batch1000": BATCHES[1000],
    "mixed": MIXED,
}
"""By the word that chooses it on the command line."""
