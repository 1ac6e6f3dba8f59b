"""An event loop and threads that follow a seed: time is a number, and chance decides who is next."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks that are ready in an order that the seed decides, and jumps over waiting.

    Args:
        random: Decides everything.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing ever arrives from outside: waiting is a jump to the next timer."""
        if timeout is None:
            raise RuntimeError("Everything waits for something, and nothing will happen.")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            shuffled = list(ready)
            self.random.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        super()._run_once()  # type: ignore[misc]

    def run_in_executor(  # type: ignore[override]
        self, executor: "VirtualThread", func: Callable[[], Any], *args: Any
    ) -> Any:
        assert not args
        return executor.enqueue(func, self.create_future())


class VirtualThread:
    """Stands for a ThreadPoolExecutor of one thread: works off its queue in order, at odd times."""

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None:
        assert max_workers == 1
        self._queue: deque[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = deque()

    def enqueue(self, work: Callable[[], Any], future: Any) -> Any:
        loop: Any = asyncio.get_running_loop()
        self._queue.append((work, future))
        loop.call_later(loop.random.expovariate(1000), self._next)
        return future

    def submit(self, work: Callable[[], Any]) -> Any:
        return self.enqueue(work, asyncio.get_running_loop().create_future())

    def shutdown(self, **_: Any) -> None:
        while self._queue:
            self._next()

    def _next(self) -> None:
        if not self._queue:
            return
        work, future = self._queue.popleft()
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # as a thread would pass it on
            if future is not None and not future.done():
                future.set_exception(error)
        else:
            if future is not None and not future.done():
                future.set_result(result)
