"""Reading ahead: several histories at a time, few of them, and each error where it belongs."""

import asyncio
from collections.abc import Sequence

import pytest

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.maintenance.read_ahead import ReadAhead
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.memory import MemoryStore
from support.ledger import all_accounts, record, top_up
from support.waiting import until

USERS = [f"user-{number:02}" for number in range(20)]


class SlowStore(MemoryStore):
    """Reads a history when it may, and cannot read one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        self.begun.append(user_id)
        try:
            await self.may_read.wait()
        except asyncio.CancelledError:
            self.cancelled.append(user_id)
            raise
        if user_id == "user-03":
            raise StoreUnavailableError
        return await super().history_after(user_id, after, limit)


@pytest.fixture
async def store() -> SlowStore:
    store = SlowStore()
    for user in USERS:
        await record(store, top_up(user, 1))
    return store


async def test_all_that_fits_is_read_at_once_and_each_history_is_its_own(store: SlowStore) -> None:
    async with ReadAhead(store, await all_accounts(store)) as reader:
        await until(lambda: store.begun == USERS)
        store.may_read.set()
        for user in USERS[:3]:
            [one] = await reader.history_after(user, 0, 1)
            assert one.user_id == user
    assert store.begun == USERS


async def test_only_so_many_transactions_are_read_before_they_are_needed(store: SlowStore) -> None:
    accounts = [Account(user, transaction_count=700) for user in USERS]
    async with ReadAhead(store, accounts) as reader:
        await until(lambda: store.begun == USERS[:3])
        store.may_read.set()
        await reader.history_after(USERS[0], 0, 700)
        assert store.begun == USERS[:4]


async def test_an_error_is_raised_for_the_history_that_it_is_about(store: SlowStore) -> None:
    store.may_read.set()
    async with ReadAhead(store, await all_accounts(store)) as reader:
        await until(lambda: store.begun == USERS)
        assert await reader.history_after("user-02", 0, 1)
        with pytest.raises(StoreUnavailableError):
            await reader.history_after("user-03", 0, 1)
        assert await reader.history_after("user-04", 0, 1)


async def test_what_was_not_read_ahead_is_read_when_it_is_asked_for(store: SlowStore) -> None:
    store.may_read.set()
    async with ReadAhead(store, []) as reader:
        assert await reader.history_after("user-02", 0, 1)
        assert await reader.history_after("user-02", 1, 1) == []


async def test_leaving_ends_all_reads(store: SlowStore) -> None:
    async with ReadAhead(store, await all_accounts(store)):
        await until(lambda: store.begun == USERS)
    assert store.cancelled == USERS
