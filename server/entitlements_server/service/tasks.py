"""The tasks that calls run in, which cannot be cancelled while gRPC reads the request.

When a client gives a call up, `grpc.aio` cancels the call's task. If that task is just waiting for
the request, gRPC never frees the operation that reads it: some 80 bytes and more a call, for ever
(https://github.com/grpc/grpc/issues/43360, found in 1.85.1 as well). So a call is held from when the
gate has seen it until its handler begins: gRPC's reading ends by itself when a call is given up.
"""

import asyncio
from typing import Any


class CallTask(asyncio.Task[Any]):
    """A task that can be held for a while, in which cancelling it is only noted.

    Attributes:
        note: What the gate has found out of the call, for the handler that runs in the task later.
    """

    note: Any = None
    _held = False
    _given_up = False

    def hold(self) -> None:
        """Only note, from here on, that somebody wants it cancelled."""
        self._held = True

    def release(self) -> None:
        """End the hold, from within the task.

        Raises:
            asyncio.CancelledError: Somebody wanted it cancelled.
        """
        self._held = False
        if self._given_up:
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task, or note it: see asyncio.Task."""
        if self._held and not self.done():
            self._given_up = True
            return True
        return super().cancel(msg)


def make_call_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let every task of an event loop be one that can be held."""
    loop.set_task_factory(
        lambda loop, coroutine, **options: CallTask(coroutine, loop=loop, **options)
    )


def hold_call() -> CallTask:
    """Hold the current task, and return it."""
    task = asyncio.current_task()
    assert isinstance(task, CallTask)
    task.hold()
    return task


def release_call() -> CallTask:
    """Release the current task, and return it.

    Raises:
        asyncio.CancelledError: The call was given up in the meantime.
    """
    task = asyncio.current_task()
    assert isinstance(task, CallTask)
    task.release()
    return task
