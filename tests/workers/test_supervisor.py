"""When the supervisor starts a worker again, and when it stops trying so hard."""

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from entitlements_server.workers import supervisor
from entitlements_server.workers.link import Serving
from entitlements_server.workers.process import WorkerProcess
from entitlements_server.workers.supervisor import FirstWorkerError, Supervisor


class Scripted(WorkerProcess):
    """A worker whose lives are given: for how long each served; None: it ended before it served."""

    def __init__(self, lives: Iterator[float | None]) -> None:
        super().__init__(0, "127.0.0.1:1")
        self._lives = lives
        self._life: float | None = None
        self.over = asyncio.Event()

    @property
    def pid(self) -> int:
        return 1

    async def start(self) -> None:
        try:
            self._life = next(self._lives)
        except StopIteration:
            self.over.set()
            await asyncio.Event().wait()

    async def ready(self) -> Serving | None:
        return None if self._life is None else Serving("1")

    async def ended(self) -> tuple[int, float]:
        return 1, self._life or 0.0


async def pauses(lives: list[float | None], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses after each life, as multiples of the shortest."""
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.001)
    monkeypatch.setattr(supervisor, "MAX_PAUSE_S", 0.008)
    worker = Scripted(iter(lives))
    one = Supervisor([worker])
    with capture_logs() as lines:
        await one.start()
        await worker.over.wait()
    for task in one._tasks:
        task.cancel()
    return [line["pause_s"] / 0.001 for line in lines if "pause_s" in line]


async def test_a_worker_that_never_serves_for_long_is_started_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lives = [0.0, None, 0.1, None, None, None]
    assert await pauses(lives, monkeypatch) == [2, 4, 8, 8, 8, 8]


async def test_one_that_served_for_a_while_is_started_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await pauses([0.0, None, 5.0, None, 60.0], monkeypatch) == [2, 4, 1, 2, 1]


async def test_a_first_worker_that_cannot_serve_ends_everything() -> None:
    with pytest.raises(FirstWorkerError) as caught:
        await Supervisor([Scripted(iter([None])), Scripted(iter([5.0]))]).start()
    assert caught.value.status == 1
