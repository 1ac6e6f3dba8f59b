"""Fills a ledger by calls to a server: accounts with tokens, and a history of any length."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import grpc
from servers import serving
from users import FIRST_KEY, TOKENS, USERS, user_id

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub

if TYPE_CHECKING:
    # Known to type checkers only: at run time both clients have one class.
    from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceAsyncStub

_BATCH = 1000
_BATCHES_IN_FLIGHT = 3
_TOP_UPS_IN_FLIGHT = 128
_FEATURE = "full_distribution"


async def fill(path: Path, stored: int, advance: Callable[[int], None]) -> float:
    """Make a ledger file of USERS accounts with at least `stored` transactions.

    Args:
        path: Absolute path of a file that is not there yet.
        stored: How many transactions; each user has a top-up and a charge even at 0.
        advance: Told of each call how many transactions it stored.

    Returns:
        The seconds that it took.
    """
    begin = time.monotonic()
    # Calls of a second each are no reason to refuse any.
    async with (
        serving(f"sqlite://{path}", "--log-level", "error") as server,
        grpc.aio.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as it,
    ):
        await fund(EntitlementServiceStub(it), USERS, advance)
        await _charge(EntitlementServiceStub(it), max(stored // USERS, 2) - 1, advance)
    return time.monotonic() - begin


async def fund(
    stub: "EntitlementServiceAsyncStub", users: int, advance: Callable[[int], None]
) -> None:
    """Give tokens to so many users."""
    numbers = iter(range(users))

    async def top_up() -> None:
        for number in numbers:
            await stub.TopUp(
                pb.TopUpRequest(user_id=user_id(number), amount=TOKENS, reason="filled")
            )
            advance(1)

    await asyncio.gather(*(top_up() for _ in range(_TOP_UPS_IN_FLIGHT)))


async def _charge(
    stub: "EntitlementServiceAsyncStub", each: int, advance: Callable[[int], None]
) -> None:
    batches = _batches(each)

    async def charge() -> None:
        for requests in batches:
            response = await stub.BatchConsume(pb.BatchConsumeRequest(requests=requests))
            for result in response.results:
                if result.HasField("error"):
                    raise SystemExit(f"The ledger can't be filled: {result.error.message}")
            advance(len(requests))

    await asyncio.gather(*(charge() for _ in range(_BATCHES_IN_FLIGHT)))


def _batches(each: int) -> Iterator[list[pb.ConsumeRequest]]:
    batch: list[pb.ConsumeRequest] = []
    for request in _charges(each):
        batch.append(request)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _charges(each: int) -> Iterator[pb.ConsumeRequest]:
    """Make everyone's charges, user after user: one under FIRST_KEY, the others under random keys."""
    random = Random(1)
    for number in range(USERS):
        for index in range(each):
            yield pb.ConsumeRequest(
                user_id=user_id(number),
                feature=_FEATURE,
                event_id=f"event-{index}" if index else "",
                idempotency_key=f"{random.getrandbits(128):032x}" if index else FIRST_KEY,
            )
