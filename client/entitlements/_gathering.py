"""Charges that are asked for at the same time travel together, as one BatchConsume.

There is no timer: whoever asks first is sent at the next turn of the event loop, together with all
who asked in the meantime; while enough batches are under way, the others gather behind them. So a
lone charge waits for nobody, and the busier the program, the larger its batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from entitlements import _failures
from entitlements._calls import Call
from entitlements._errors import ServiceUnavailableError
from entitlements.v1 import entitlement_service_pb2 as rpc

MAX_BATCH = 256
"""Most charges in one call."""

MAX_UNDER_WAY = 2
"""Calls at once: while the service works on one, the answers of the other are read."""

MAX_WAITING = 10_000
"""Charges that may wait for their call; more are refused."""

_Waiting = tuple[Call[Any], asyncio.Future[rpc.ConsumeResponse]]


class Gatherer:
    """Sends charges together.

    Args:
        send: Makes a BatchConsume call; raises grpc.aio.AioRpcError.
    """

    def __init__(
        self, send: Callable[[rpc.BatchConsumeRequest], Awaitable[rpc.BatchConsumeResponse]]
    ) -> None:
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def consume(self, call: Call[Any]) -> rpc.ConsumeResponse:
        """Make a charge, and return the answer to it alone.

        Who is cancelled before the charge is sent is not charged. A charge that was sent is made.

        Raises:
            EntitlementError: As if the charge had been sent alone.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise ServiceUnavailableError(
                f"{MAX_WAITING} charges wait to be sent already and this one was not: ask again when"
                " some of them are done.",
                idempotency_key=call.idempotency_key,
            )
        answer: asyncio.Future[rpc.ConsumeResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if len(self._under_way) < MAX_UNDER_WAY:
            task = asyncio.create_task(self._work())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await answer

    async def _work(self) -> None:
        while batch := self._next_batch():
            try:
                response = await self._send(_request(batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, each of them is told
                for call, answer in batch:
                    _fail(answer, _failed(error, call.idempotency_key))
            except BaseException:
                # The event loop is being shut down: nobody must wait for ever.
                for _, answer in batch:
                    answer.cancel()
                raise
            else:
                for (call, answer), result in zip(batch, response.results, strict=True):
                    _settle(answer, result, call.idempotency_key)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < MAX_BATCH:
            one = self._waiting.popleft()
            if not one[1].done():
                batch.append(one)
        return batch


def _request(batch: list[_Waiting]) -> rpc.BatchConsumeRequest:
    charges: list[Any] = [call.request for call, _ in batch]
    return rpc.BatchConsumeRequest(requests=charges)


def _settle(
    answer: asyncio.Future[rpc.ConsumeResponse], result: rpc.BatchConsumeResult, key: str
) -> None:
    if not result.HasField("response"):
        _fail(answer, _failures.from_status(result.error, key))
    elif not answer.done():
        answer.set_result(result.response)


def _failed(error: Exception, key: str) -> Exception:
    if not isinstance(error, grpc.aio.AioRpcError):
        return error
    failed = _failures.from_call(error.code(), error.details(), error.trailing_metadata(), key)
    failed.__cause__ = error
    return failed


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
