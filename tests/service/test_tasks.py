"""Calls are not cancelled while gRPC reads their requests."""

import asyncio

import pytest

from entitlements_server.service.tasks import hold_call, make_call_tasks, release_call


@pytest.fixture(autouse=True)
async def call_tasks() -> None:
    make_call_tasks(asyncio.get_running_loop())


async def test_a_task_that_is_held_goes_on_when_it_is_cancelled() -> None:
    reached: list[str] = []
    begun = asyncio.Event()
    read = asyncio.Event()

    async def call() -> None:
        hold_call()
        begun.set()
        await read.wait()
        reached.append("the request was read")
        release_call()
        reached.append("the handler ran")

    task = asyncio.create_task(call())
    await begun.wait()
    assert task.cancel()
    read.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["the request was read"]


async def test_a_task_that_was_released_is_cancelled_at_once() -> None:
    begun = asyncio.Event()

    async def call() -> None:
        hold_call()
        release_call()
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_nobody_cancels_runs_to_its_end() -> None:
    async def call() -> str:
        hold_call()
        await asyncio.sleep(0)
        release_call()
        return "done"

    assert await asyncio.create_task(call()) == "done"


async def test_cancelling_a_held_task_that_is_done_says_so() -> None:
    async def call() -> None:
        hold_call()

    task = asyncio.create_task(call())
    await task
    assert not task.cancel()
