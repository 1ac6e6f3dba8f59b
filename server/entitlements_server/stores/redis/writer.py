"""Stores writes by compare-and-set: decide, store if nothing has changed, otherwise decide again.

Several servers may write for one user at the same time. An attempt is stored only if the account is
still the one it was decided on; the others are decided again on the new account. After a few conflicts
a write takes a lease and the others wait, so that every write succeeds eventually.

The connection may be lost after an attempt. Its write id shows whether it was stored: the id is in the
account and in each transaction of the attempt, and there can be only one transaction with the sequence
of the attempt's first.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.exceptions import ResponseError

from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.redis.account_write import AccountWrite, Attempt
from entitlements_server.stores.redis.codec import read_account
from entitlements_server.stores.redis.connection import Command, LostError
from entitlements_server.stores.redis.topology import MisplacedError, Request, Topology

log = structlog.get_logger()

STORED = 1
"""The script's reply when it has stored an attempt."""

LEASED = 2
"""The script's reply when another write has the lease."""

_MAX_LOSSES = 4
_GIVE_UP_S = 10.0
_MIN_PAUSE_S = 0.001
_MAX_PAUSE_S = 0.008
_LOST_PAUSE_S = 0.05
_MAX_DOUBLINGS = 10
"""After a thousand conflicts the power would be too large for a float."""


class Writer:
    """Stores what groups write.

    Args:
        topology: The servers.
        on_account: Called with each account as it was last seen, and its stored text.
        confirm: Whether replicas must confirm writes before they are acknowledged.
    """

    def __init__(
        self, topology: Topology, on_account: Callable[[Account, bytes], None], *, confirm: bool
    ) -> None:
        self._topology = topology
        self._on_account = on_account
        self._confirm = confirm

    async def prefetch(self, writes: Sequence[AccountWrite]) -> None:
        """Read the read sets of all writes without a state, together.

        Raises:
            StoreUnavailableError: A server cannot be reached.
        """
        prefetches = [(write, write.prefetch()) for write in writes if write.state is None]
        if not prefetches:
            return
        firsts = await self._read([(write, prefetch.first()) for write, prefetch in prefetches])
        lost = set()
        for (write, prefetch), replies in zip(prefetches, firsts, strict=True):
            if replies is None:
                lost.add(write)
            else:
                prefetch.take_first(replies)
        prefetches = [(write, prefetch) for write, prefetch in prefetches if write not in lost]
        seconds = await self._read([(write, prefetch.second()) for write, prefetch in prefetches])
        for (write, prefetch), replies in zip(prefetches, seconds, strict=True):
            try:
                if replies is not None:
                    prefetch.take_second(replies)
                    write.take(prefetch)
            except LostError as error:
                _count_loss(write, error)

    async def write(self, writes: Sequence[AccountWrite]) -> None:
        """Store every write. On return each has its stored attempt in `done`.

        Raises:
            StoreUnavailableError: It is unknown which writes were stored.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _GIVE_UP_S
        pending = list(writes)
        while True:
            await self.prefetch(pending)
            pending = await self._attempt([write for write in pending if write.done is None])
            if not pending:
                return
            if loop.time() > end:
                raise StoreUnavailableError("Other servers keep writing to the same accounts.")
            await _pause(pending)

    async def _attempt(self, writes: Sequence[AccountWrite]) -> list[AccountWrite]:
        """Decide each write that has a state and try to store it. Returns those still pending."""
        tried: list[tuple[AccountWrite, Attempt]] = []
        requests: list[Request] = []
        pending: list[AccountWrite] = []
        for write in writes:
            attempt = write.attempt() if write.state is not None else None
            if attempt is None:
                pending.append(write)
            elif attempt.entries:
                tried.append((write, attempt))
                requests.append(write.request(attempt))
            elif self._confirm:
                # A replay: the replicas may not have confirmed the original write.
                tried.append((write, attempt))
                keys = write.keys
                requests.append(
                    Request(keys.bucket, ("SET", keys.replication_barrier, "", "PX", 1))
                )
            else:
                write.done = attempt
        if requests:
            replies = await self._topology.run(requests, confirm=self._confirm)
            for (write, attempt), reply in zip(tried, replies, strict=True):
                self._take(write, attempt, reply)
                if write.done is None:
                    pending.append(write)
        return pending

    def _take(self, write: AccountWrite, attempt: Attempt, reply: Any) -> None:
        if isinstance(reply, LostError):
            if attempt.entries:
                write.doubtful.append(attempt)
            _count_loss(write, reply)
        elif isinstance(reply, MisplacedError):
            _count_loss(write, reply)
        elif isinstance(reply, Exception):
            raise unavailable(reply) from reply
        elif reply == STORED or not attempt.entries:
            write.done = attempt
            if attempt.entries:
                self._on_account(attempt.account, attempt.account_text)
        elif reply == LEASED:
            write.conflicts += 1
        else:
            write.conflicts += 1
            text, bound = reply
            account = read_account(write.keys.user_id, text)
            self._on_account(account, text)
            if not bound and write.optimistic:
                write.guess(account, text)

    async def _read(
        self, wanted: Sequence[tuple[AccountWrite, Sequence[Command]]]
    ) -> list[Sequence[Any] | None]:
        """Execute the reading commands of each write. Returns None where the connection was lost."""
        requests = [
            Request(write.keys.bucket, command)
            for write, commands in wanted
            for command in commands
        ]
        replies = iter(await self._topology.run(requests)) if requests else iter(())
        results: list[Sequence[Any] | None] = []
        for write, commands in wanted:
            mine = [next(replies) for _ in commands]
            problem = next((reply for reply in mine if isinstance(reply, Exception)), None)
            if problem is None:
                results.append(mine)
                continue
            if not isinstance(problem, (LostError, MisplacedError)):
                raise unavailable(problem) from problem
            _count_loss(write, problem)
            results.append(None)
        return results


def unavailable(problem: Exception) -> StoreUnavailableError:
    """Return the StoreUnavailableError for a failed request."""
    if isinstance(problem, ResponseError):
        log.error("Redis rejected a command.", problem=str(problem))
    return StoreUnavailableError(f"Redis cannot be used now: {type(problem).__name__}.")


def _count_loss(write: AccountWrite, problem: Exception) -> None:
    write.losses += 1
    if write.losses > _MAX_LOSSES:
        raise unavailable(problem) from problem


async def _pause(writes: Sequence[AccountWrite]) -> None:
    """Wait before the next attempt: longer after each failure."""
    losses = max(write.losses for write in writes)
    conflicts = max(write.conflicts for write in writes)
    seconds = 0.0
    if losses:
        seconds = _LOST_PAUSE_S * 2 ** (losses - 1)
    elif conflicts > 1:
        doublings = min(conflicts - 2, _MAX_DOUBLINGS)
        seconds = min(_MIN_PAUSE_S * 2**doublings, _MAX_PAUSE_S)
    if seconds:
        await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter
