"""Compare and set: decide on what is there, store it if that is still there, or decide again.

Several servers may write for one user at once. Each attempt is stored only if the account is the
one that it was decided on, so all but one of them are decided again on the new account. After a
few conflicts a write asks for the next turn, and the others wait for it: everyone gets on.

A connection may break behind an attempt. Whether that attempt was stored, or still will be, is
told by its stamp: it is in the account and in each transaction of the attempt, and at the place
of the attempt's first transaction there can only ever be one.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.exceptions import ResponseError

from entitlements_server.ledger.values import Account
from entitlements_server.stores.port import StoreUnavailableError
from entitlements_server.stores.redis.layout import read_account
from entitlements_server.stores.redis.link import Link, MisplacedError, Request
from entitlements_server.stores.redis.node import Command, LostError
from entitlements_server.stores.redis.part import Attempt, Part

log = structlog.get_logger()

STORED = 1
"""What the script returns when it has stored an attempt."""

WAIT_FOR_TURN = 2
"""What it returns when another write has the turn."""

_LOST_MOST = 4
_GIVE_UP_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.008
_LOST_PAUSE_SECONDS = 0.05
_MOST_DOUBLINGS = 10
"""More would be a number that no float holds, after a thousand conflicts."""


class Writer:
    """Stores the parts of groups.

    Args:
        link: To the servers.
        on_account: Is told each account as it was last seen: the user, the account, its text.
        confirm: Whether replicas have to confirm what is acknowledged.
    """

    def __init__(
        self, link: Link, on_account: Callable[[Account, bytes], None], *, confirm: bool
    ) -> None:
        self._link = link
        self._on_account = on_account
        self._confirm = confirm

    async def load(self, parts: Sequence[Part]) -> None:
        """Read what parts without a state need, all at once.

        Raises:
            StoreUnavailableError: A server cannot be reached.
        """
        loads = [(part, part.load()) for part in parts if part.state is None]
        if not loads:
            return
        firsts = await self._read([(part, load.first()) for part, load in loads])
        lost = set()
        for (part, load), replies in zip(loads, firsts, strict=True):
            if replies is None:
                lost.add(part)
            else:
                load.take_first(replies)
        loads = [(part, load) for part, load in loads if part not in lost]
        seconds = await self._read([(part, load.second()) for part, load in loads])
        for (part, load), replies in zip(loads, seconds, strict=True):
            try:
                if replies is not None:
                    load.take_second(replies)
                    part.take(load)
            except LostError as error:
                _count_loss(part, error)

    async def write(self, parts: Sequence[Part]) -> None:
        """Store every part: each has its attempt in `done` on return.

        Raises:
            StoreUnavailableError: It is unknown which parts were stored.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _GIVE_UP_SECONDS
        pending = list(parts)
        while True:
            await self.load(pending)
            pending = await self._attempt([part for part in pending if part.done is None])
            if not pending:
                return
            if loop.time() > end:
                raise StoreUnavailableError("Other servers keep writing to the same accounts.")
            await _pause(pending)

    async def _attempt(self, parts: Sequence[Part]) -> list[Part]:
        """Decide each part that has a state and try to store it; return those still pending."""
        tried: list[tuple[Part, Attempt]] = []
        requests: list[Request] = []
        pending: list[Part] = []
        for part in parts:
            attempt = part.attempt() if part.state is not None else None
            if attempt is None:
                pending.append(part)
            elif attempt.transactions:
                tried.append((part, attempt))
                requests.append(part.request(attempt))
            elif self._confirm:
                # It repeats an answer whose replicas may not have confirmed it at the time.
                tried.append((part, attempt))
                keys = part.keys
                requests.append(Request(keys.bucket, ("SET", keys.barrier, "", "PX", 1)))
            else:
                part.done = attempt
        if requests:
            replies = await self._link.run(requests, confirm=self._confirm)
            for (part, attempt), reply in zip(tried, replies, strict=True):
                self._take(part, attempt, reply)
                if part.done is None:
                    pending.append(part)
        return pending

    def _take(self, part: Part, attempt: Attempt, reply: Any) -> None:
        if isinstance(reply, LostError):
            if attempt.transactions:
                part.doubtful.append(attempt)
            _count_loss(part, reply)
        elif isinstance(reply, MisplacedError):
            _count_loss(part, reply)
        elif isinstance(reply, Exception):
            raise unavailable(reply) from reply
        elif reply == STORED or not attempt.transactions:
            part.done = attempt
            if attempt.transactions:
                self._on_account(attempt.account, attempt.account_text.encode())
        elif reply == WAIT_FOR_TURN:
            part.conflicts += 1
        else:
            part.conflicts += 1
            text, bound = reply
            account = read_account(part.keys.user_id, text)
            self._on_account(account, text)
            if not bound and part.optimistic:
                part.guess(account, text)

    async def _read(
        self, wanted: Sequence[tuple[Part, Sequence[Command]]]
    ) -> list[Sequence[Any] | None]:
        """Execute the reading commands of each part; None stands for a lost connection."""
        requests = [
            Request(part.keys.bucket, command) for part, commands in wanted for command in commands
        ]
        replies = iter(await self._link.run(requests)) if requests else iter(())
        results: list[Sequence[Any] | None] = []
        for part, commands in wanted:
            mine = [next(replies) for _ in commands]
            problem = next((reply for reply in mine if isinstance(reply, Exception)), None)
            if problem is None:
                results.append(mine)
                continue
            if not isinstance(problem, (LostError, MisplacedError)):
                raise unavailable(problem) from problem
            _count_loss(part, problem)
            results.append(None)
        return results


def unavailable(problem: Exception) -> StoreUnavailableError:
    """Turn what went wrong with a request into what the port raises."""
    if isinstance(problem, ResponseError):
        log.error("Redis refused a command.", problem=str(problem))
    return StoreUnavailableError(f"Redis cannot be used now: {type(problem).__name__}.")


def _count_loss(part: Part, problem: Exception) -> None:
    part.losses += 1
    if part.losses > _LOST_MOST:
        raise unavailable(problem) from problem


async def _pause(parts: Sequence[Part]) -> None:
    """Let others finish before the next try: longer, the more often it was in vain."""
    losses = max(part.losses for part in parts)
    conflicts = max(part.conflicts for part in parts)
    seconds = 0.0
    if losses:
        seconds = _LOST_PAUSE_SECONDS * 2 ** (losses - 1)
    elif conflicts > 1:
        doublings = min(conflicts - 2, _MOST_DOUBLINGS)
        seconds = min(_FIRST_PAUSE_SECONDS * 2**doublings, _LONGEST_PAUSE_SECONDS)
    if seconds:
        await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter
