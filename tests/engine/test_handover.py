"""Handing over to the event loop: in order, all of it, with one wake-up a burst."""

import asyncio
import threading

import pytest

from entitlements_server.engine.handover import Handover
from support.waiting import until


async def test_a_burst_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    wakes = []
    taken: list[int] = []
    handover = Handover(loop, taken.append)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", lambda *what: wakes.append(wake(*what)))
        for number in range(100):
            handover.post(number)
    await until(lambda: len(taken) == 100)
    assert taken == list(range(100))
    assert len(wakes) == 1


async def test_nothing_is_lost_that_is_posted_while_the_loop_takes() -> None:
    taken: list[int] = []
    handover = Handover(asyncio.get_running_loop(), taken.append)

    def post() -> None:
        for number in range(20_000):
            handover.post(number)

    poster = threading.Thread(target=post)
    poster.start()
    await until(lambda: len(taken) == 20_000)
    poster.join()
    assert taken == list(range(20_000))
