"""Starts the workers, replaces those that end, and stops them."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import structlog

from entitlements_server.config.settings import Settings
from entitlements_server.workers.exposition import merged
from entitlements_server.workers.process import WorkerProcess
from entitlements_server.workers.requirements import require_sharing
from entitlements_server.workers.reservation import reserved

log = structlog.get_logger()

MIN_PAUSE_S = 0.1
"""Before a worker is started again."""

MAX_PAUSE_S = 10.0
"""The same, for one that never serves for long: the pause doubles each time."""

STEADY_S = 1.0
"""A worker that served for so long begins again with the shortest pause."""

_STOP_S = 10.0
"""Time to close the store and leave, after `drain_seconds`."""

OnServing = Callable[[str, str, str], None]
"""Called once all workers serve: with the address, the catalogue version, and where metrics are, or ''."""


class FirstWorkerError(Exception):
    """The first worker ended before it served, and has said why.

    Args:
        status: Its exit status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def supervise(settings: Settings, on_serving: OnServing, on_stop: Callable[[], None]) -> None:
    """Serve with several workers until SIGTERM or SIGINT.

    Args:
        settings: The settings, which the workers read for themselves.
        on_serving: Called once all workers serve.
        on_stop: Called when the workers are about to be stopped.

    Raises:
        ConfigurationError: These settings do not allow several workers, or an address is not free.
        FirstWorkerError: The first worker could not serve.
    """
    require_sharing(settings)
    with ExitStack() as stack:
        address = stack.enter_context(reserved(settings.listen))
        workers = [WorkerProcess(index, address) for index in range(settings.workers)]
        supervisor = Supervisor(workers)
        metrics_address = ""
        if settings.metrics_listen is not None:
            metrics_address = stack.enter_context(
                merged(settings.metrics_listen, workers, lambda: supervisor.restarts)
            )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.end)
        loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
        try:
            version = await supervisor.start()
            if not supervisor.stopping.is_set():
                on_serving(address, version, metrics_address)
            await supervisor.stopping.wait()
            on_stop()
        finally:
            await supervisor.stop(settings.drain_seconds + _STOP_S)


class Supervisor:
    """Keeps workers running.

    Args:
        workers: Not started yet.

    Attributes:
        stopping: Set when the workers are to be stopped.
        restarts: How often a worker was started again.
    """

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self.stopping = asyncio.Event()
        self.restarts = 0
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Start the first worker, and when it serves the others. Returns the version of its catalogue.

        So what is wrong with the configuration is said once, and a new ledger is made by one worker.

        Raises:
            FirstWorkerError: The first worker ended before it served.
        """
        first, *others = self._workers
        await self._start(first)
        serving = await first.ready()
        if serving is None:
            status, _ = await first.ended()
            if self.stopping.is_set():
                return ""
            raise FirstWorkerError(status)
        self._tasks.append(asyncio.create_task(self._keep(first)))
        for worker in others:
            await self._start(worker)
        await asyncio.gather(*(worker.ready() for worker in others))
        self._tasks += [asyncio.create_task(self._keep(worker)) for worker in others]
        return serving.catalogue_version

    def reload(self) -> None:
        """Have every worker read its files again."""
        for worker in self._workers:
            worker.reload()

    def end(self) -> None:
        """Have every worker stop, and start none again."""
        if not self.stopping.is_set():
            self.stopping.set()
            for worker in self._workers:
                worker.signal(signal.SIGTERM)

    async def stop(self, limit_s: float) -> None:
        """Wait until all workers have stopped. Those that are still there after `limit_s` seconds are killed."""
        self.end()
        _, late = await asyncio.wait(self._tasks, timeout=limit_s) if self._tasks else ((), ())
        if late:
            log.error("Workers did not stop in time and are killed.", workers=len(late))
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
            await asyncio.wait(late)

    async def _start(self, worker: WorkerProcess) -> None:
        await worker.start()
        if self.stopping.is_set():
            worker.signal(signal.SIGTERM)

    async def _keep(self, worker: WorkerProcess) -> None:
        """Start a worker again each time it has ended, until all are stopped."""
        pause_s = MIN_PAUSE_S
        while True:
            status, served_s = await worker.ended()
            if self.stopping.is_set():
                return
            pause_s = MIN_PAUSE_S if served_s >= STEADY_S else min(pause_s * 2, MAX_PAUSE_S)
            log.error(
                "A worker has ended and is replaced.",
                worker=worker.index,
                pid=worker.pid,
                status=status,
                served_s=round(served_s, 1),
                pause_s=pause_s,
            )
            try:
                await asyncio.wait_for(self.stopping.wait(), pause_s)
            except TimeoutError:
                pass
            else:
                return
            self.restarts += 1
            await self._start(worker)
            if await worker.ready() is not None:
                log.info("A worker serves again.", worker=worker.index, pid=worker.pid)
