"""A lost reply: the write id of an attempt proves that it was stored, and nothing proves that it was not."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.errors import UnknownFeatureError
from entitlements_server.ledger.outcomes import Outcome, Rejected
from entitlements_server.ledger.values import Account, Facts
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.postgresql.account_write import AccountWrite
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, commit_one, consume, recorded, rule_at, top_up, whole_history
from support.postgresql import PostgresqlServer, waiting_for_a_lock
from support.proxy import proxied
from support.waiting import until

CHARGE = b'"6":"full_distribution"'
"""What only the message that stores a charge has in it."""


def once(words: bytes) -> Callable[[bytes], bool]:
    """Says yes to the first message that has these words in it, and never again."""
    left = [True]
    return lambda sent: words in sent and bool(left) and left.pop()


async def through(port: int) -> PostgresqlStore:
    return await PostgresqlStore.open(f"postgresql://owner@127.0.0.1:{port}/ledger")


async def test_a_charge_whose_reply_was_lost_is_found_and_not_repeated(
    server: PostgresqlServer,
) -> None:
    async with proxied(server.port) as proxy:
        store = await through(proxy.port)
        await commit(store, top_up("ada", 10))
        proxy.lose_replies = once(CHARGE)
        charge = recorded(await commit_one(store, consume("ada")))
        assert proxy.broken.is_set()
        assert (await whole_history(store, "ada"))[1:] == [charge]
        await store.close()


async def test_a_lost_reply_is_settled_although_others_have_written_since(
    server: PostgresqlServer,
) -> None:
    """The account has another write id by then; the transaction still has ours."""
    async with proxied(server.port) as proxy:
        store, other = await through(proxy.port), await through(server.port)
        await commit(store, top_up("ada", 10))
        proxy.lose_replies = once(CHARGE)
        pending = asyncio.create_task(commit_one(store, consume("ada", caller="one")))
        proxy.gate.clear()
        await proxy.broken.wait()
        theirs = recorded(await commit_one(other, consume("ada", caller="other")))
        proxy.gate.set()
        mine = recorded(await pending)
        assert (mine.sequence, mine.caller, theirs.sequence) == (2, "one", 3)
        assert (await store.account("ada")).balance == 6
        await store.close()
        await other.close()


async def test_a_charge_that_arrives_after_it_was_given_up_changes_nothing(
    server: PostgresqlServer,
) -> None:
    async with proxied(server.port) as proxy:
        store = await through(proxy.port)
        await commit(store, top_up("ada", 10))
        proxy.hold = once(CHARGE)
        charge = recorded(await commit_one(store, consume("ada")))
        assert proxy.broken.is_set()
        await proxy.release()
        assert (await whole_history(store, "ada"))[1:] == [charge]
        await store.close()


class Withdrawn:
    """Rules by which the feature is there when a charge is first decided, and then is gone."""

    def __init__(self) -> None:
        self.decisions = 0

    def __call__(self, account: Account, facts: Facts, command: Command) -> Outcome:
        self.decisions += 1
        if self.decisions == 1:
            return rule_at()(account, facts, command)
        return Rejected(UnknownFeatureError("full_distribution"))


async def rejected_while_a_charge_is_on_its_way(server: PostgresqlServer, balance: int) -> int:
    """Returns how many transactions there are once the charge has arrived."""
    async with proxied(server.port) as proxy:
        store = await through(proxy.port)
        if balance:
            await commit(store, top_up("ada", balance))
        proxy.hold = once(CHARGE)
        [outcome] = await store.commit([consume("ada")], Withdrawn())
        assert isinstance(outcome, Rejected)
        await proxy.release()
        found = len(await whole_history(store, "ada"))
        await store.close()
        return found


@pytest.mark.parametrize("balance", [10, 0], ids=["of an account", "of a new user"])
async def test_what_was_rejected_after_a_lost_reply_can_not_be_stored_later(
    server: PostgresqlServer, balance: int
) -> None:
    """The account is moved on, so that the first attempt has nothing left to be stored on."""
    assert await rejected_while_a_charge_is_on_its_way(server, balance) == (1 if balance else 0)
    store = await through(server.port)
    assert len((await store.accounts("", 10)).accounts) == (1 if balance else 0)
    after = recorded(await commit_one(store, top_up("ada", 5)))
    assert after.balance_after == balance + 5
    assert await store.self_check() == []
    await store.close()


@pytest.mark.parametrize("balance", [10, 0])
async def test_without_a_fence_it_would_be(
    server: PostgresqlServer, balance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AccountWrite, "needs_storing", lambda _, attempt: bool(attempt.entries))
    assert await rejected_while_a_charge_is_on_its_way(server, balance) == (2 if balance else 1)


async def locked_while_its_connection_is_lost(
    server: PostgresqlServer, lose: Callable[[Any], Any]
) -> list[int]:
    """A charge waits for a lock when its connection is lost. Returns the sequences in the end."""
    store = await through(server.port)
    await commit(store, top_up("ada", 10))
    holder = await asyncpg.connect(server.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM entitlements.accounts WHERE user_id = 'ada' FOR UPDATE")
    pending = asyncio.create_task(commit_one(store, consume("ada")))
    pids = await waiting_for_a_lock(server)
    lose(pids)
    # The same commands again, on another connection. The first statement may wait still.
    for _ in range(3000):
        if set(await waiting_for_a_lock(server)) - set(pids):
            break
        await asyncio.sleep(0.01)
    await transaction.rollback()
    await holder.close()
    recorded(await pending)
    past = await whole_history(store, "ada")
    assert await store.self_check() == []
    await store.close()
    return [one.sequence for one in past]


async def test_a_backend_that_is_terminated_before_its_reply_has_charged_once_or_not_at_all(
    server: PostgresqlServer,
) -> None:
    """The driver reports that in many ways: all of them leave it open what was done."""

    def terminate(pids: list[str]) -> None:
        server.sql(f"SELECT pg_terminate_backend({pids[0]})")

    assert await locked_while_its_connection_is_lost(server, terminate) == [1, 2]


async def test_a_statement_that_still_waits_for_its_lock_is_not_taken_for_failed(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on once the lock is free, though nobody listens any more."""
    monkeypatch.setattr("entitlements_server.stores.postgresql.connections.REPLY_S", 1.0)
    monkeypatch.setattr("entitlements_server.stores.postgresql.connection.SESSION", "SELECT 1")
    assert await locked_while_its_connection_is_lost(server, lambda _: None) == [1, 2]


async def test_a_cancelled_commit_is_not_cancelled_in_the_database(
    server: PostgresqlServer,
) -> None:
    """What has committed and waits for a standby would be visible, and could be lost."""
    store = await through(server.port)
    await commit(store, top_up("ada", 10))
    holder = await asyncpg.connect(server.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM entitlements.accounts WHERE user_id = 'ada' FOR UPDATE")
    pending = asyncio.create_task(commit_one(store, consume("ada")))
    await waiting_for_a_lock(server)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    await transaction.rollback()
    await holder.close()
    await store.close()
    store = await through(server.port)
    assert [one.sequence for one in await whole_history(store, "ada")] == [1, 2]
    await store.close()


async def test_however_a_backend_ends_callers_get_one_error_and_nothing_acknowledged_is_lost(
    server: PostgresqlServer,
) -> None:
    """While backends are terminated all the time, also those that are being connected."""
    store = await through(server.port)
    users = [f"user-{number}" for number in range(6)]
    await commit(store, *(top_up(user, 10**6) for user in users))
    acknowledged: list[str] = []
    done = asyncio.Event()

    async def work(user: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            try:
                await store.ping()
                await store.account(user)
                charge = recorded(await commit_one(store, consume(user)))
                acknowledged.append(charge.transaction_id)
            except StoreUnavailableError:
                await asyncio.sleep(0.01)

    working = [asyncio.create_task(work(user)) for user in users]
    for count in range(40):
        for _ in range(2):  # so that new connections meet their end, too
            await asyncio.to_thread(
                server.sql,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'ledger'",
                database="postgres",
            )
        await until(lambda: len(acknowledged) > count or any(task.done() for task in working))  # noqa: B023
    done.set()
    await asyncio.gather(*working)
    await store.close()
    store = await through(server.port)
    there = {one.transaction_id for user in users for one in await whole_history(store, user)}
    assert len(acknowledged) >= 40
    assert there.issuperset(acknowledged)
    assert len(set(acknowledged)) == len(acknowledged)
    assert await store.self_check() == []
    await store.close()
