"""Stores writes by compare-and-set: decide, store if nothing has changed, otherwise decide again.

Several servers may write for one user at the same time. An attempt is stored only if the account still
has the write id that it was decided on; the others are decided again on the new account. After a few
conflicts a write takes its turn: it locks the account, and the others wait.

The connection may be lost after an attempt. Its write id, in each of its transactions, proves that it was
stored; that it is not there proves nothing, because the statement may still be waiting. So the commands
are decided again on the same account, and answered once that is stored: then the first attempt can be
stored no more.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence

import structlog

from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.postgresql.account_write import (
    MAX_COMMANDS,
    AccountWrite,
    Attempt,
    arguments,
)
from entitlements_server.stores.postgresql.codec import damaged_account
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.connections import (
    ConflictError,
    Connections,
    DownError,
    LostError,
    RefusedError,
    UnfitError,
)
from entitlements_server.stores.postgresql.prefetch import prefetch
from entitlements_server.stores.postgresql.statements import COMMIT, CONFIRM, EARLY, LOCK

log = structlog.get_logger()

TURN_AFTER = 3
"""Conflicts before a write takes its turn."""

_MAX_LOSSES = 4
_GIVE_UP_S = 10.0
_MIN_PAUSE_S = 0.001
_MAX_PAUSE_S = 0.008
_LOST_PAUSE_S = 0.05
_MAX_DOUBLINGS = 10
"""After a thousand conflicts the power would be too large for a float."""

_UNUSABLE = (DownError, UnfitError, RefusedError)


class Writer:
    """Stores what groups write.

    Args:
        connections: To the database.
        on_account: Called with each account that was stored, its write id, and its stored text.
    """

    def __init__(
        self, connections: Connections, on_account: Callable[[Account, int, bytes], None]
    ) -> None:
        self._connections = connections
        self._on_account = on_account

    async def prefetch(self, writes: Sequence[AccountWrite]) -> None:
        """Read the read sets of all writes without a state, together. Some writes may fail."""
        wanted = [
            (write, write.prefetch())
            for write in writes
            if write.is_pending and write.state is None
        ]
        if not wanted:
            return
        sets = [one for _, one in wanted]
        try:
            await self._connections.run(lambda connection: prefetch(connection, sets))
        except (LostError, ConflictError) as error:
            for write, _ in wanted:
                _count_loss(write, error)
        except _UNUSABLE as error:
            for write, _ in wanted:
                write.fail(unavailable(error))
        else:
            for write, one in wanted:
                write.take(one)

    async def write(self, writes: Sequence[AccountWrite]) -> None:
        """Store every write. On return each has its stored attempt in `done`, or its `error`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _GIVE_UP_S
        while pending := [write for write in writes if write.is_pending]:
            if loop.time() > end:
                for write in pending:
                    write.fail(
                        StoreUnavailableError("Other servers keep writing to the same account.")
                    )
                break
            await _pause(pending)
            for write in pending:
                if write.conflicts >= TURN_AFTER:
                    await self._take_turn(write)
            await self.prefetch(pending)
            for part in _parts([write for write in pending if write.is_pending]):
                await self._attempt(part)
        await self._confirm(writes)

    async def _attempt(self, writes: Sequence[AccountWrite]) -> None:
        """Decide each write that has a state, and try to store all of them in one statement."""
        tried = [(write, attempt) for write in writes if (attempt := _decided(write)) is not None]
        if tried:
            await self._try(tried)

    async def _try(self, tried: Sequence[tuple[AccountWrite, Attempt]]) -> None:
        attempts = [attempt for _, attempt in tried]
        try:
            stored = await self._connections.run(lambda connection: _store(connection, attempts))
        except LostError as error:
            for write, attempt in tried:
                _doubt(write, attempt, error)
        except ConflictError:
            for write, _ in tried:
                write.conflicts += 1
        except _UNUSABLE as error:
            await self._refuse(tried, error)
        except Exception as error:
            log.exception("A group could not be stored because of an unexpected error.")
            for write, attempt in tried:
                _give_up(write, attempt, error)
        else:
            for write, attempt in tried:
                self._take(write, attempt, stored)

    async def _refuse(
        self, tried: Sequence[tuple[AccountWrite, Attempt]], problem: Exception
    ) -> None:
        """Fail the writes of a statement that was refused; nothing of it was stored."""
        if _is_about_a_row(problem) and len(tried) > 1:
            # Alone, each shows whether it is to blame.
            for one in tried:
                await self._try([one])
            return
        for write, _ in tried:
            _blame(write, problem)

    async def _take_turn(self, write: AccountWrite) -> None:
        """Lock the account, read it, decide and store."""
        tried: list[Attempt] = []

        async def work(connection: Connection) -> set[int]:
            async with connection.transaction():
                await connection.fetch(LOCK, write.user_id)
                ((is_early,),) = await connection.fetch(EARLY, write.user_id)
                if is_early:
                    # The change feed would have what is stored now before what it follows.
                    raise ConflictError("another write came first")
                read = write.prefetch()
                await prefetch(connection, [read])
                write.take(read)
                attempt = _decided(write)
                if attempt is None:
                    return set()
                tried.append(attempt)
                return await _store(connection, tried)

        try:
            stored = await self._connections.run(work)
        except LostError as error:
            _doubt(write, tried[0] if tried else None, error)
        except ConflictError:
            write.conflicts += 1
        except _UNUSABLE as error:
            _blame(write, error)
        except Exception as error:
            log.exception("A write could not be stored because of an unexpected error.")
            _give_up(write, tried[0] if tried else None, error)
        else:
            for attempt in tried:
                self._take(write, attempt, stored)

    def _take(self, write: AccountWrite, attempt: Attempt, stored: set[int]) -> None:
        if attempt.write_id not in stored:
            write.conflicts += 1
            return
        write.done = attempt
        self._on_account(attempt.account, attempt.write_id, attempt.text)

    async def _confirm(self, writes: Sequence[AccountWrite]) -> None:
        """Make sure that what is answered without a commit of its own is as durable as one.

        With a synchronous standby what is visible may not have arrived there: a backend that is
        terminated while it waits makes it visible.
        """
        done = [(write, write.done) for write in writes if write.done is not None]
        settled = any(write.settled for write, _ in done)
        unsure = [write for write, attempt in done if write.settled or not attempt.entries]
        if not unsure:
            return

        async def work(connection: Connection) -> None:
            promises = connection.promises
            if settled or promises["standbys"]:
                await connection.fetch(CONFIRM, promises["synchronous_commit"])

        try:
            await self._connections.run(work)
        except (LostError, ConflictError, *_UNUSABLE) as error:
            for write in unsure:
                write.done = None
                write.fail(unavailable(error))


def _decided(write: AccountWrite) -> Attempt | None:
    """Decide, if there is a state to decide on. Returns what must be stored before it is answered."""
    if not write.is_pending or write.state is None:
        return None
    try:
        attempt = write.attempt()
    except Exception as error:  # noqa: BLE001  # it concerns this write only
        write.fail(error)
        return None
    if attempt is not None and not write.needs_storing(attempt):
        write.done = attempt
        return None
    return attempt


async def _store(connection: Connection, attempts: Sequence[Attempt]) -> set[int]:
    """Store attempts. Returns the write ids of those that were."""
    rows = await connection.fetch(
        COMMIT, connection.promises["synchronous_commit"], *arguments(attempts)
    )
    return {row["write_id"] for row in rows}


def unavailable(problem: Exception) -> StoreUnavailableError:
    """Return the StoreUnavailableError for failed work."""
    error = StoreUnavailableError(f"PostgreSQL cannot be used now: {problem}")
    error.__cause__ = problem
    return error


def _is_about_a_row(problem: Exception) -> bool:
    return isinstance(problem, RefusedError) and problem.is_about_rows


def _blame(write: AccountWrite, problem: Exception) -> None:
    if _is_about_a_row(problem):
        write.fail(damaged_account(write.user_id, f"it contradicts other rows ({problem})"))
    else:
        write.fail(unavailable(problem))


def _parts(writes: Sequence[AccountWrite]) -> Iterator[list[AccountWrite]]:
    """Divide writes so that each part has at most MAX_COMMANDS commands, or one user."""
    part: list[AccountWrite] = []
    size = 0
    for write in writes:
        if part and size + write.size > MAX_COMMANDS:
            yield part
            part, size = [], 0
        part.append(write)
        size += write.size
    if part:
        yield part


def _doubt(write: AccountWrite, attempt: Attempt | None, problem: Exception) -> None:
    """Note that it is unknown whether an attempt was stored, or will be."""
    write.state = None
    write.done = None
    if attempt is not None and attempt.entries:
        write.doubtful.append(attempt)
    _count_loss(write, problem)


def _give_up(write: AccountWrite, attempt: Attempt | None, error: Exception) -> None:
    """Fail a write after an unexpected error: whether its attempt was stored is unknown."""
    if attempt is not None and attempt.entries:
        write.doubtful.append(attempt)
    write.fail(error)


def _count_loss(write: AccountWrite, problem: Exception) -> None:
    write.losses += 1
    if write.losses > _MAX_LOSSES:
        write.fail(unavailable(problem))


async def _pause(writes: Sequence[AccountWrite]) -> None:
    """Wait before the next attempt: longer after each failure."""
    losses = max((write.losses for write in writes), default=0)
    conflicts = max((write.conflicts for write in writes), default=0)
    seconds = 0.0
    if losses:
        seconds = _LOST_PAUSE_S * 2 ** (losses - 1)
    elif conflicts > 1:
        doublings = min(conflicts - 2, _MAX_DOUBLINGS)
        seconds = min(_MIN_PAUSE_S * 2**doublings, _MAX_PAUSE_S)
    if seconds:
        await asyncio.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter
