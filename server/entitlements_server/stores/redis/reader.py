"""Batches reads: those that arrive while a pipeline is running go together in the next one."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entitlements_server.stores.interface import DamagedRecordError, StoreUnavailableError
from entitlements_server.stores.redis.connection import LostError
from entitlements_server.stores.redis.topology import MisplacedError, Request, Topology
from entitlements_server.stores.redis.writer import failure, unavailable

_PIPELINE = 1000
_TRIES = 3
_PAUSE_S = 0.05


_LOST = (LostError, MisplacedError)


@dataclass(slots=True, eq=False)
class _Read:
    requests: Sequence[Request]
    future: asyncio.Future[list[Any]]


class Reader:
    """Executes commands that only read.

    One pipeline runs at a time, so any number of calls needs one connection.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._queue: deque[_Read] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, requests: Sequence[Request], user_id: str = "") -> list[Any]:
        """Execute requests. All of them begin after this call.

        Args:
            requests: Redis commands that only read.
            user_id: Whose records they read, if they are one user's.

        Returns:
            The replies in order. None of them is an error.

        Raises:
            StoreUnavailableError: A server cannot be reached, or returned an error.
            DamagedRecordError: A key has another type.
        """
        replies = await self.read_each(requests, user_id)
        for reply in replies:
            if isinstance(reply, DamagedRecordError):
                raise reply
        return replies

    async def read_each(self, requests: Sequence[Request], user_id: str = "") -> list[Any]:
        """Do the same, but return a DamagedRecordError in place of each reply that is one."""
        if not requests:
            return []
        # Lost reads may be repeated: reading changes nothing.
        for trial in range(1, _TRIES + 1):
            replies = await self._submit(requests)
            problem = next((one for one in replies if isinstance(one, _LOST)), None)
            if problem is None:
                return [
                    _checked(user_id, request, reply)
                    for request, reply in zip(requests, replies, strict=True)
                ]
            if trial == _TRIES:
                raise unavailable(problem) from problem
            await asyncio.sleep(_PAUSE_S * trial)
        raise AssertionError  # the loop returns or raises

    async def close(self) -> None:
        """Finish the current reads and accept no more."""
        self._closed = True
        if self._running is not None:
            await self._running

    async def _submit(self, requests: Sequence[Request]) -> list[Any]:
        if self._closed:
            raise StoreUnavailableError("The ledger is closed.")
        loop = asyncio.get_running_loop()
        read = _Read(requests, loop.create_future())
        self._queue.append(read)
        if self._running is None:
            self._running = loop.create_task(self._drain())
        return await read.future

    async def _drain(self) -> None:
        try:
            while self._queue:
                reads: list[_Read] = []
                size = 0
                while self._queue and size < _PIPELINE:
                    read = self._queue.popleft()
                    if not read.future.done():
                        reads.append(read)
                        size += len(read.requests)
                await self._execute(reads)
        finally:
            self._running = None

    async def _execute(self, reads: Sequence[_Read]) -> None:
        requests = [request for read in reads for request in read.requests]
        try:
            replies = iter(await self._topology.run(requests))
        except Exception as error:  # noqa: BLE001  # whatever it is, each caller gets it
            for read in reads:
                if not read.future.done():
                    read.future.set_exception(error)
            return
        for read in reads:
            mine = [next(replies) for _ in read.requests]
            if not read.future.done():
                read.future.set_result(mine)


def _checked(user_id: str, request: Request, reply: Any) -> Any:
    """Return a reply, or the DamagedRecordError that it stands for; raise any other error."""
    if not isinstance(reply, Exception):
        return reply
    error = failure(user_id, f"the key {request.command[1]!s}", reply)
    if isinstance(error, DamagedRecordError):
        return error
    raise error from reply
