"""Lets signals end a command that has something to remove."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ends_as_on_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that it removes what it has begun.

    Signals that the process ignores, as with nohup, stay ignored.
    """
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    for one in _SIGNALS:
        if before[one] is signal.SIG_DFL:
            signal.signal(one, _interrupt)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As for what a shell runs in the background: asyncio leaves the signal alone then.
        raise KeyboardInterrupt
    # asyncio waits for the end of the task that it cancels.
    signal.raise_signal(signal.SIGINT)
