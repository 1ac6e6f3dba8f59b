"""Concurrent charges are sent together, as one BatchConsume.

There is no timer. The first charge is sent at the next turn of the event loop, together with all
charges that were asked for until then. While enough batches are under way, further charges wait for
the next one. So a lone charge waits for nothing, and the busier the program, the larger its batches.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import grpc

from entitlements import _error_mapping
from entitlements._calls import Call
from entitlements._errors import ServiceUnavailableError, UnexpectedServiceError
from entitlements.v1 import entitlement_service_pb2 as rpc

MAX_BATCH = 256
"""Most charges in one call."""

MAX_UNDER_WAY = 2
"""Most calls at once: while the service works on one, the responses of the other are read."""

MAX_WAITING = 10_000
"""Most charges that wait for a call. Further ones fail at once."""

MAX_CHARGE_BYTES = 4096
"""Size of the largest charge that is batched. A valid one has at most 3,400 bytes, and one that is too
large for the service must not fail the others of its batch."""

_Waiting = tuple[Call[Any], asyncio.Future[rpc.ConsumeResponse]]


class Batcher:
    """Sends charges together.

    Args:
        send: Makes a BatchConsume call; raises grpc.aio.AioRpcError.
        deadline_s: Longest time for a charge, including the wait for its call, in seconds.
    """

    def __init__(
        self,
        send: Callable[[rpc.BatchConsumeRequest], Awaitable[rpc.BatchConsumeResponse]],
        deadline_s: float,
    ) -> None:
        self._send = send
        self._deadline_s = deadline_s
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    @staticmethod
    def accepts(call: Call[Any]) -> bool:
        """Whether a call can be sent in a batch."""
        return call.method == "Consume" and call.request.ByteSize() <= MAX_CHARGE_BYTES

    async def consume(self, call: Call[Any]) -> rpc.ConsumeResponse:
        """Make a charge, and return the response to it alone.

        A charge that is cancelled before it is sent is not made. One that was sent is made.

        Raises:
            EntitlementError: As if the charge had been sent alone. A failure of the whole call,
                as when the service is overloaded, is raised for each of its charges.
        """
        if len(self._waiting) >= MAX_WAITING:
            self._waiting = deque(one for one in self._waiting if not one[1].done())
        if len(self._waiting) >= MAX_WAITING:
            raise ServiceUnavailableError(
                f"{MAX_WAITING} charges are waiting to be sent already, so this one was not sent."
                " Try again when some of them are done.",
                idempotency_key=call.idempotency_key,
            )
        answer: asyncio.Future[rpc.ConsumeResponse] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if len(self._under_way) < MAX_UNDER_WAY:
            # Not in the context of the caller that happens to be first: it works for others, too.
            task = asyncio.create_task(self._work(), context=Context())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await answer
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise _error_mapping.from_call(code, None, None, call.idempotency_key) from None

    async def _work(self) -> None:
        while batch := self._next_batch():
            try:
                response = await self._send(_request(batch))
                for (call, answer), result in zip(batch, response.results, strict=True):
                    _settle(answer, result, call.idempotency_key)
            except Exception as error:  # noqa: BLE001 - each charge fails with it, whatever it is
                for call, answer in batch:
                    _fail(answer, _failed(error, call.idempotency_key))
            except BaseException:
                # The channel or the event loop is closed: no caller may wait for ever.
                for _, answer in (*batch, *self._waiting):
                    answer.cancel()
                raise

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
        _fail(answer, _error_mapping.from_status(result.error, key))
    elif not answer.done():
        answer.set_result(result.response)


def _failed(error: Exception, key: str) -> Exception:
    if isinstance(error, grpc.aio.AioRpcError):
        failed = _error_mapping.from_call(
            error.code(), error.details(), error.trailing_metadata(), key
        )
    else:
        failed = UnexpectedServiceError(
            "The response of the entitlement service does not fit the request. Nothing was granted.",
            idempotency_key=key,
        )
    failed.__cause__ = error
    return failed


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
