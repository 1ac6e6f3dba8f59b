"""The committing engine: commands that arrive together are made durable together.

While one group is being committed, new commands queue up and form the next one. So an idle
service commits at once, and a busy one pays for one sync per group instead of one per command.
No timer is involved: a group begins when some turns of the event loop have brought nothing new.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from entitlements_server.ledger.catalogue import Catalogue
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule, bind
from entitlements_server.stores.interface import Store

log = structlog.get_logger()

MAX_GROUP = 1000
"""Most commands that one group takes, and most that one submission may have."""

QUIET_TURNS = 8
"""Turns of the event loop without a new command after which a group begins.

An idle loop does them in 20 µs. A busy loop is slower and each turn may bring a call nearer to its
command: without them, groups of five were committed where there could be one of thirty, and each
group costs as much as ten commands. See docs/performance.md.
"""

ENOUGH = 64
"""Commands that are worth a group at once, however busy the event loop is."""


class OverloadedError(Exception):
    """The queue is full, the server is shutting down, or the deadline passed in the queue.

    Nothing was charged. `retry_delay_s` is when to try again, in seconds. `cause` says in a word
    what was too much, for those who watch.
    """

    def __init__(self, message: str, retry_delay_s: float, cause: str = "queue") -> None:
        super().__init__(message)
        self.message = message
        self.retry_delay_s = retry_delay_s
        self.cause = cause


class Observer(Protocol):
    """Watches groups. Its methods are called on the event loop and must be quick."""

    def origin(self) -> object:
        """Return what to remember of the call that submits commands, for `committed`."""

    def committed(
        self, outcomes: Sequence[Outcome], origins: Sequence[object], seconds: float
    ) -> None:
        """Take note of a group that is durable.

        Args:
            outcomes: Of its commands.
            origins: What `origin` returned for each of its submissions.
            seconds: How long the commit took.
        """


@dataclass(slots=True, eq=False)
class _Submission:
    commands: Sequence[Command]
    future: asyncio.Future[list[Outcome]]
    deadline: float | None
    origin: object


class Engine:
    """Decides and commits commands, in the order in which they were submitted.

    Args:
        store: Where to commit.
        catalogue: Tells the catalogue in force; asked once a group.
        max_queued: Commands that may wait, at least 1; more are refused.
        clock_us: The time, microseconds since 1970 UTC.
        observer: Watches groups, if anyone does.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Callable[[], Catalogue],
        *,
        max_queued: int = 4096,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._max_queued = max_queued
        self._clock_us = clock_us
        self._observer = observer
        self._queue: deque[_Submission] = deque()
        self._queued = 0
        self._closed = False
        self._committing: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Commands that wait for their group to begin."""
        return self._queued

    async def submit(
        self, commands: Sequence[Command], deadline: float | None = None
    ) -> list[Outcome]:
        """Commit commands, all in one group, and return their outcomes once they are durable.

        A submission whose caller is cancelled, or whose deadline passes, before its group begins
        is dropped, uncharged. Once its group has begun, it completes.

        Args:
            commands: 1 to MAX_GROUP.
            deadline: By the event loop's clock, in seconds; None waits for ever.

        Raises:
            OverloadedError: Nothing was charged; try again later.
            StoreUnavailableError: It is unknown what was charged; try again with the same keys.
        """
        assert 1 <= len(commands) <= MAX_GROUP
        if self._closed:
            raise OverloadedError(
                "This server is shutting down and nothing was charged: send the request again, to"
                " another server or when it is back.",
                retry_delay_s=1.0,
                cause="draining",
            )
        if self._queued and self._queued + len(commands) > self._max_queued:
            raise OverloadedError(
                "The server has more work than it can queue and nothing was charged: send the"
                " request again after the delay.",
                retry_delay_s=0.5,
            )
        loop = asyncio.get_running_loop()
        origin = self._observer.origin() if self._observer is not None else None
        submission = _Submission(commands, loop.create_future(), deadline, origin)
        self._queue.append(submission)
        self._queued += len(commands)
        if self._committing is None:
            self._committing = loop.create_task(self._commit_all())
        return await submission.future

    async def close(self) -> None:
        """Refuse new commands, and return when those that wait are committed."""
        self._closed = True
        if self._committing is not None:
            await self._committing

    async def _commit_all(self) -> None:
        try:
            while self._queue:
                await self._gather()
                group = self._next_group()
                if group:
                    await self._commit(group)
        finally:
            self._committing = None

    async def _gather(self) -> None:
        """Let calls that are under way join the group, as long as there are any."""
        quiet = queued = 0
        while quiet < QUIET_TURNS and self._queued < ENOUGH:
            quiet = quiet + 1 if self._queued == queued else 0
            queued = self._queued
            await asyncio.sleep(0)

    def _next_group(self) -> list[_Submission]:
        """Take the submissions of the next group off the queue, without those nobody waits for."""
        group: list[_Submission] = []
        size = 0
        now = asyncio.get_running_loop().time()
        while self._queue and size + len(self._queue[0].commands) <= MAX_GROUP:
            submission = self._queue.popleft()
            self._queued -= len(submission.commands)
            if submission.future.done():
                continue
            if submission.deadline is not None and submission.deadline <= now:
                submission.future.set_exception(
                    OverloadedError(
                        "The deadline passed before the server came to the request and nothing"
                        " was charged: send it again, with a longer deadline.",
                        retry_delay_s=0.5,
                        cause="deadline",
                    )
                )
                continue
            group.append(submission)
            size += len(submission.commands)
        return group

    async def _commit(self, group: Sequence[_Submission]) -> None:
        commands = [command for submission in group for command in submission.commands]
        started_s = time.perf_counter()
        try:
            decided = await self._store.commit(commands, self._rule())
        except Exception as error:  # noqa: BLE001  # whatever it is, each caller is told
            for submission in group:
                if not submission.future.done():
                    submission.future.set_exception(error)
            return
        seconds = time.perf_counter() - started_s
        outcomes = iter(decided)
        for submission in group:
            mine = [next(outcomes) for _ in submission.commands]
            if not submission.future.done():
                submission.future.set_result(mine)
        if self._observer is not None:
            origins = [submission.origin for submission in group]
            try:
                self._observer.committed(decided, origins, seconds)
            except Exception:
                # Those who watch must not stop those who work.
                log.exception("A group could not be observed.")

    def _rule(self) -> Rule:
        return bind(self._catalogue(), self._clock_us())
