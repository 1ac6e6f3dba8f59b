"""Waiting for something that another thread or process does."""

import asyncio
from collections.abc import Callable

PATIENCE_S = 30
"""How long anything may take that takes milliseconds on a machine with nothing else to do."""


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as it holds; after PATIENCE_S the test fails."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # a file of another process sends no events
            await asyncio.sleep(0.01)
