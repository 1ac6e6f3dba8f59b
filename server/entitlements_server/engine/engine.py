"""The committing engine: commands that arrive together are made durable together.

While one group is being committed, new commands queue up and form the next one. So an idle
service commits at once, and a busy one pays for one sync per group instead of one per command.
No timer is involved: a group begins when some turns of the event loop have brought nothing new.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from msgspec import Struct

from entitlements_server.engine.bisection import Bisection
from entitlements_server.engine.clock import wall_clock_us
from entitlements_server.engine.handover import Handover
from entitlements_server.errors import OverloadedError
from entitlements_server.ledger.catalogue import Catalogue
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule, bind
from entitlements_server.ledger.terms import DEFAULTS, Choices
from entitlements_server.stores.alerts import Alerts
from entitlements_server.stores.interface import (
    CommandResult,
    Failed,
    Store,
    StoreUnavailableError,
)

log = structlog.get_logger()

MAX_GROUP = 1000
"""Most commands that one group takes, and most that one submission may have."""

QUIET_TURNS = 8
"""Turns of the event loop without a new command after which a group begins.

An idle loop does them in 20 µs. A busy loop is slower and each turn may bring a call nearer to its
command: without them, groups of five were committed where there could be one of thirty, and each
group costs as much as ten commands. See docs/performance.md.
"""

MIN_BUSY_GROUP = 64
"""Commands that begin a group at once, however busy the event loop is."""


class Observer(Protocol):
    """Watches groups. It is called on the event loop and must be quick."""

    def committed(
        self, outcomes: Sequence[CommandResult], origins: Sequence[object], seconds: float
    ) -> None:
        """Take note of a group that is durable.

        Args:
            outcomes: Of its commands.
            origins: What each of its submissions was submitted with.
            seconds: How long the commit took.
        """


Settle = Callable[[Sequence[CommandResult] | Exception], None]
"""Receives the outcomes of a submission, or the error. Called once, on the event loop."""


class Submission(Struct, eq=False):
    """Commands that are committed in one group.

    Attributes:
        commands: 1 to MAX_GROUP.
        settle: Receives the outcomes.
        deadline_s: When their caller gives up, in seconds of `time.monotonic`; None: never.
        origin: Where they come from, for observers.
        abandoned: Their caller has given up: they are dropped if their group has not begun. May be set
            from any thread.
    """

    commands: Sequence[Command]
    settle: Settle
    deadline_s: float | None = None
    origin: object = None
    abandoned: bool = False


class Engine:
    """Decides and commits commands, in the order in which they were submitted.

    Make it on the event loop that it is to run on.

    Args:
        store: Where to commit.
        catalogue: Returns the catalogue in force; called once per group.
        max_queued: Commands that may wait, at least 1; submissions beyond that are shed.
        clock_us: The time, microseconds since 1970 UTC. A CallError of it fails the group, uncharged.
        choices: What the operator chooses about the rules.
        observer: Observes groups; None: nobody does.
        alerts: Reports what an operator has to look at.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Callable[[], Catalogue],
        *,
        max_queued: int = 4096,
        clock_us: Callable[[], int] = wall_clock_us,
        choices: Choices = DEFAULTS,
        observer: Observer | None = None,
        alerts: Alerts | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._max_queued = max_queued
        self._clock_us = clock_us
        self._choices = choices
        self._observer = observer
        self._alerts = alerts or Alerts()
        self._bisection = Bisection(store, self._alerts)
        self._loop = asyncio.get_running_loop()
        self._handover = Handover(self._loop, self._take)
        self._queue: deque[Submission] = deque()
        self._lock = threading.Lock()
        self._queued = 0
        self._closed = False
        self._committing: asyncio.Task[None] | None = None

    @property
    def queued(self) -> int:
        """Commands that wait for their group to begin."""
        return self._queued

    def enqueue(self, submission: Submission) -> None:
        """Commit the commands of a submission, all in one group; `settle` takes their outcomes.

        May be called from any thread. A submission that is abandoned, or whose deadline passes, before
        its group begins is dropped, uncharged. Once its group has begun, it completes.

        `settle` may be given an OverloadedError (nothing was charged; try again later) or a
        StoreUnavailableError (it is unknown what was charged; try again with the same keys).

        Raises:
            OverloadedError: Nothing was charged, and `settle` is not called; try again later.
        """
        size = len(submission.commands)
        assert 1 <= size <= MAX_GROUP
        with self._lock:
            if self._closed:
                raise OverloadedError(
                    "This server is shutting down and nothing was charged: send the request again,"
                    " to another server or when it is back.",
                    retry_delay_s=1.0,
                    cause="draining",
                )
            if self._queued and self._queued + size > self._max_queued:
                raise OverloadedError(
                    "The server has more work than it can queue and nothing was charged: send the"
                    " request again after the delay.",
                    retry_delay_s=0.5,
                )
            self._queued += size
            # Within the lock: `close` must find whatever was let in.
            self._handover.post(submission)

    async def submit(
        self, commands: Sequence[Command], deadline: float | None = None
    ) -> list[CommandResult]:
        """Commit commands, and return their outcomes once they are durable: see `enqueue`.

        Cancelling it abandons the submission.

        Raises:
            OverloadedError: Nothing was charged; try again later.
            StoreUnavailableError: It is unknown what was charged; try again with the same keys.
        """
        settled: asyncio.Future[list[CommandResult]] = self._loop.create_future()

        def settle(outcomes: Sequence[CommandResult] | Exception) -> None:
            if settled.done():
                return
            if isinstance(outcomes, Exception):
                settled.set_exception(outcomes)
            else:
                settled.set_result(list(outcomes))

        submission = Submission(commands, settle, deadline)
        self.enqueue(submission)
        try:
            return await settled
        except asyncio.CancelledError:
            submission.abandoned = True
            raise

    async def close(self) -> None:
        """Shed new commands, and return when those that wait are committed."""
        with self._lock:
            self._closed = True
        # What was posted before has been delivered after a turn of the loop.
        await asyncio.sleep(0)
        while self._queued or self._committing is not None:
            if self._committing is not None:
                await self._committing
            else:
                await asyncio.sleep(0)

    def _take(self, submission: Submission) -> None:
        self._queue.append(submission)
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit_all())

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
        """Wait for calls that are on their way, so that they join the group."""
        quiet = queued = 0
        while quiet < QUIET_TURNS and self._queued < MIN_BUSY_GROUP:
            quiet = quiet + 1 if self._queued == queued else 0
            queued = self._queued
            await asyncio.sleep(0)

    def _next_group(self) -> list[Submission]:
        """Take the submissions of the next group off the queue, without those that were given up."""
        group: list[Submission] = []
        late: list[Submission] = []
        size = taken = 0
        now = self._loop.time()
        while self._queue and size + len(self._queue[0].commands) <= MAX_GROUP:
            submission = self._queue.popleft()
            taken += len(submission.commands)
            if submission.abandoned:
                continue
            if submission.deadline_s is not None and submission.deadline_s <= now:
                late.append(submission)
                continue
            group.append(submission)
            size += len(submission.commands)
        with self._lock:
            self._queued -= taken
        for submission in late:
            _settle(
                submission,
                OverloadedError(
                    "The deadline passed before the server came to the request and nothing was"
                    " charged: send it again, with a longer deadline.",
                    retry_delay_s=0.5,
                    cause="deadline",
                ),
            )
        return group

    async def _commit(self, group: Sequence[Submission]) -> None:
        commands = [command for submission in group for command in submission.commands]
        started_s = time.perf_counter()
        results = await self._bisection.commit(commands, self._rule)
        seconds = time.perf_counter() - started_s
        begin = 0
        for submission in group:
            end = begin + len(submission.commands)
            _settle(submission, _of_submission(results[begin:end]))
            begin = end
        if all(isinstance(one, Failed) for one in results):
            return
        self._alerts.recorded(results)
        if self._observer is not None:
            origins = [submission.origin for submission in group]
            try:
                self._observer.committed(results, origins, seconds)
            except Exception:
                # A failing observer must not stop the engine.
                log.exception("A group could not be observed.")

    def _rule(self) -> Rule:
        return bind(self._catalogue(), self._clock_us(), self._choices)


def _settle(submission: Submission, outcomes: Sequence[CommandResult] | Exception) -> None:
    try:
        submission.settle(outcomes)
    except Exception:
        # One failing receiver must not keep the others from their outcomes.
        log.exception("The outcomes of a submission could not be taken.")


def _of_submission(results: Sequence[CommandResult]) -> Sequence[CommandResult] | Exception:
    """Return the results of a submission, or the error if none of its commands was decided.

    If the store was unavailable for one of them, the whole submission is answered with that: a client then
    sends all of it again. What was stored under a key is replayed; a command without a key may be stored twice,
    as after any unknown outcome.
    """
    for one in results:
        if isinstance(one, Failed) and isinstance(one.error, StoreUnavailableError):
            return one.error
    first = results[0]
    if isinstance(first, Failed) and all(
        isinstance(one, Failed) and one.error is first.error for one in results
    ):
        return first.error
    return results
