"""A store that does what a test wants."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import pytest

from entitlements_server import app
from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.stores.interface import CommandResult
from entitlements_server.stores.memory import MemoryStore


class GatedStore(MemoryStore):
    """Holds each commit until the gate is open, and counts what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.groups: list[Sequence[Command]] = []

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        self.groups.append(commands)
        self.begun.set()
        await self.gate.wait()
        return await super().commit(commands, rule)


class FailingStore(MemoryStore):
    """Fails as the test says, as long as `error` is set."""

    error: Exception | None = None

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        if self.error is not None:
            raise self.error
        return await super().commit(commands, rule)

    async def ping(self) -> None:
        if self.error is not None:
            raise self.error


S = TypeVar("S", bound=MemoryStore)


def used_by_servers(store: S, monkeypatch: pytest.MonkeyPatch) -> S:
    """Have every server in this process open this store, whatever its settings say."""

    async def open_store(_: str) -> S:
        return store

    monkeypatch.setattr(app, "open_store", open_store)
    return store
