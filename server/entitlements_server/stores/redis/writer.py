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

from entitlements_server.errors import CallError
from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import DamagedRecordError, StoreUnavailableError
from entitlements_server.stores.redis.account_write import AccountWrite, Attempt
from entitlements_server.stores.redis.codec import read_account
from entitlements_server.stores.redis.connection import Command, LostError
from entitlements_server.stores.redis.prefetch import ContradictionError
from entitlements_server.stores.redis.schema import UserKeys
from entitlements_server.stores.redis.topology import MisplacedError, Request, Topology

log = structlog.get_logger()

STORED = 1
"""The script's reply when it has stored an attempt."""

DAMAGED = "DAMAGED"
"""The first word of the script's error about a key."""

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
        """Read the read sets of all writes without a state, together. Some writes may fail."""
        prefetches = [
            (write, write.prefetch())
            for write in writes
            if write.is_pending and write.state is None
        ]
        if not prefetches:
            return
        firsts = await self._read([(write, prefetch.first()) for write, prefetch in prefetches])
        lost = set()
        for (write, prefetch), replies in zip(prefetches, firsts, strict=True):
            if replies is None:
                lost.add(write)
                continue
            try:
                prefetch.take_first(replies)
            except Exception as error:  # noqa: BLE001  # it concerns this write only
                lost.add(write)
                write.fail(error)
        prefetches = [(write, prefetch) for write, prefetch in prefetches if write not in lost]
        seconds = await self._read([(write, prefetch.second()) for write, prefetch in prefetches])
        for (write, prefetch), replies in zip(prefetches, seconds, strict=True):
            try:
                if replies is not None:
                    prefetch.take_second(replies)
                    write.take(prefetch)
            except LostError as error:
                _count_loss(write, error)
            except Exception as error:  # noqa: BLE001  # it concerns this write only
                write.fail(error)

    async def write(self, writes: Sequence[AccountWrite]) -> None:
        """Store every write. On return each has its stored attempt in `done`, or its `error`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _GIVE_UP_S
        pending = list(writes)
        while True:
            await self.prefetch(pending)
            await self._attempt([write for write in pending if write.is_pending])
            pending = [write for write in pending if write.is_pending]
            if not pending:
                return
            if loop.time() > end:
                for write in pending:
                    write.fail(
                        StoreUnavailableError("Other servers keep writing to the same account.")
                    )
                return
            await _pause(pending)

    async def _attempt(self, writes: Sequence[AccountWrite]) -> None:
        """Decide each write that has a state and try to store it."""
        tried: list[tuple[AccountWrite, Attempt, Request]] = []
        for write in writes:
            if write.state is None:
                continue
            try:
                attempt = write.attempt()
                if attempt is None:
                    continue
                if attempt.entries:
                    tried.append((write, attempt, write.request(attempt)))
                elif self._confirm:
                    # A replay: the replicas may not have confirmed the original write.
                    tried.append((write, attempt, _barrier(write.keys)))
                else:
                    write.done = attempt
            except Exception as error:  # noqa: BLE001  # it concerns this write only
                write.fail(error)
        if tried:
            await self._store(tried)

    async def _store(self, tried: Sequence[tuple[AccountWrite, Attempt, Request]]) -> None:
        """Send attempts to Redis. Until its reply settles it, each may have been stored."""
        for write, attempt, _ in tried:
            if attempt.entries:
                write.doubtful.append(attempt)
        try:
            replies = await self._topology.run(
                [request for _, _, request in tried], confirm=self._confirm
            )
        except Exception as error:
            log.exception("A group could not be sent to Redis because of an unexpected error.")
            for write, _, _ in tried:
                write.fail(error)
            return
        for (write, attempt, _), reply in zip(tried, replies, strict=True):
            try:
                self._take(write, attempt, reply)
            except Exception as error:  # noqa: BLE001  # it concerns this write only
                write.fail(error)

    def _take(self, write: AccountWrite, attempt: Attempt, reply: Any) -> None:
        if isinstance(reply, LostError):
            _count_loss(write, reply)
            return
        if attempt.entries:
            write.doubtful.pop()
        if isinstance(reply, MisplacedError):
            _count_loss(write, reply)
        elif isinstance(reply, Exception):
            raise failure(write.keys.user_id, "the script's keys", reply) from reply
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
            failed = [
                (reply, command)
                for reply, command in zip(mine, commands, strict=True)
                if isinstance(reply, Exception)
            ]
            if not failed:
                results.append(mine)
                continue
            problem, command = failed[0]
            if isinstance(problem, (LostError, MisplacedError)):
                _count_loss(write, problem)
            else:
                write.fail(failure(write.keys.user_id, f"the key {command[1]!s}", problem))
            results.append(None)
        return results


def _barrier(keys: UserKeys) -> Request:
    """Return a write that changes nothing, for replicas to confirm."""
    return Request(keys.bucket, ("SET", keys.replication_barrier, "", "PX", 1))


def failure(user_id: str, record: str, problem: Exception) -> CallError:
    """Return what a user is answered with after an error reply.

    Args:
        user_id: The user; empty: it concerns many.
        record: What the Redis command is about.
        problem: The error reply, or what stands in its place.
    """
    text = str(problem)
    code, _, rest = text.partition(" ")
    if isinstance(problem, ResponseError) and code == "WRONGTYPE":
        error: CallError = DamagedRecordError(user_id, record, "it has another type")
    elif isinstance(problem, ResponseError) and code == DAMAGED:
        # Keys may have spaces in them, as user ids may; what follows has a fixed beginning.
        key, _, what = rest.rpartition(" it has ")
        error = DamagedRecordError(user_id, f"the key {key}", f"it has {what}")
    else:
        return unavailable(problem)
    error.__cause__ = problem
    return error


def unavailable(problem: Exception) -> StoreUnavailableError:
    """Return the StoreUnavailableError for a failed request."""
    what = type(problem).__name__
    if isinstance(problem, ResponseError):
        # redis-py removes the first word of errors that it knows, as MOVED.
        what = f"{what}: {problem}"
        log.error("Redis rejected a command.", problem=what)
    error = StoreUnavailableError(f"Redis cannot be used now: {what}.")
    error.__cause__ = problem
    return error


def _count_loss(write: AccountWrite, problem: Exception) -> None:
    write.losses += 1
    if write.losses > _MAX_LOSSES:
        if isinstance(problem, ContradictionError):
            write.fail(problem.damage)
        else:
            write.fail(unavailable(problem))


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
