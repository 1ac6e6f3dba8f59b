import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from entitlements_server.engine.engine import Engine
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.outcomes import Recorded, Replayed
from entitlements_server.ledger.terms import Choices
from entitlements_server.ledger.values import Status
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.redis import connection
from entitlements_server.stores.redis.account_write import AccountWrite
from entitlements_server.stores.redis.schema import UserKeys
from entitlements_server.stores.redis.store import RedisStore
from entitlements_server.stores.redis.topology import Request, Topology
from entitlements_server.stores.redis.writer import _pause
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.redis import RedisClusterServers, RedisServer

Servers = RedisServer | RedisClusterServers


async def opened(servers: Servers, count: int) -> list[RedisStore]:
    stores = [await open_store(servers.url) for _ in range(count)]
    return [store for store in stores if isinstance(store, RedisStore)]


async def test_the_last_tokens_are_spent_once_however_many_servers_race(servers: Servers) -> None:
    """200 clients on four servers ask for 2 of the last 10 tokens at once: five get them."""
    stores = await opened(servers, 4)
    every = Choices(max_denials=1000)  # of them is recorded
    engines = [Engine(store, lambda: BUILT_IN, choices=every) for store in stores]
    await commit(stores[0], top_up("ada", 10))
    results = await asyncio.gather(
        *(engines[n % 4].submit([consume("ada", f"key-{n}")]) for n in range(200))
    )
    transactions = [recorded(outcome) for (outcome,) in results]
    assert sum(denial(one) is None for one in transactions) == 5
    past = await whole_history(stores[3], "ada")
    assert [one.sequence for one in past] == list(range(1, 202))
    assert sum(one.amount for one in past) == 0
    assert sum(one.status is Status.SUCCESS for one in past) == 6
    for store in stores:
        await store.close()


async def test_a_key_is_charged_once_however_many_servers_get_it(servers: Servers) -> None:
    """50 keys, sent 20 times each through four servers: one charge each, and 19 replays of it."""
    stores = await opened(servers, 4)
    engines = [Engine(store, lambda: BUILT_IN) for store in stores]
    await commit(stores[0], *(top_up(f"user-{n}", 100) for n in range(10)))
    results = await asyncio.gather(
        *(
            engines[copy % 4].submit([consume(f"user-{key % 10}", f"key-{key}")])
            for copy in range(20)
            for key in range(50)
        )
    )
    outcomes = [outcome for (outcome,) in results]
    assert sum(isinstance(outcome, Recorded) for outcome in outcomes) == 50
    assert sum(isinstance(outcome, Replayed) for outcome in outcomes) == 950
    assert len({outcome.transaction.transaction_id for outcome in outcomes}) == 50  # type: ignore[union-attr]
    assert (await stores[0].account("user-0")).balance == 90
    for store in stores:
        await store.close()


async def test_what_one_server_acknowledged_the_others_read(servers: Servers) -> None:
    """A read sees every acknowledged write, whichever server made it."""
    one, other = await opened(servers, 2)
    for number in range(1, 6):
        await commit(one, top_up("ada", 1))
        assert (await other.account("ada")).balance == 2 * number - 1
        assert (await other.transaction("ada", 2 * number - 1)) is not None
        await commit(other, top_up("ada", 1))
        assert len(await one.history("ada", 1 << 53, 100)) == 2 * number
    await one.close()
    await other.close()


async def test_a_retry_through_another_server_is_a_replay_even_at_zero(servers: Servers) -> None:
    """A server that never saw the key, and remembers an old balance, still finds the charge."""
    one, other = await opened(servers, 2)
    await commit(one, top_up("ada", 4))
    assert (await other.account("ada")).balance == 4
    first = recorded(await commit_one(one, consume("ada", "key")))
    await commit(one, consume("ada"))
    assert await commit_one(other, consume("ada", "key")) == Replayed(first)
    await one.close()
    await other.close()


class Beaten:
    """A topology on which somebody else is always faster, until it has the turn."""

    def __init__(self, topology: Topology, rival: RedisStore) -> None:
        self._topology = topology
        self._rival = rival
        self.beaten = 0
        self.waiting: asyncio.Task[Any] | None = None

    async def run(self, requests: Sequence[Request], *, confirm: bool = False) -> list[Any]:
        if requests[0].command[0] == "commit":
            keys = UserKeys("ada")
            (turn,) = await self._topology.run([Request(keys.bucket, ("GET", keys.lease))])
            if turn is None:
                await commit(self._rival, consume("ada"))
                self.beaten += 1
            else:
                self.waiting = asyncio.create_task(commit_one(self._rival, consume("ada")))
        return await self._topology.run(requests, confirm=confirm)


async def test_a_server_that_always_comes_second_gets_its_turn(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few conflicts the others have to wait for the one that lost them."""
    # A turn ends by itself after half a second: here it must not, however slow the machine is.
    script = connection._SCRIPT.replace("'PX', 500", "'PX', 60000")
    assert script != connection._SCRIPT
    monkeypatch.setattr(connection, "_SCRIPT", script)
    slow, fast = await opened(servers, 2)
    await commit(fast, top_up("ada", 1000))
    beaten = Beaten(slow._topology, fast)
    slow._writer._topology = beaten  # type: ignore[assignment]
    mine = recorded(await commit_one(slow, consume("ada", "mine")))
    assert beaten.beaten == 3 + 1
    assert beaten.waiting is not None
    assert recorded(await beaten.waiting).sequence == mine.sequence + 1
    # It was the last: whoever waited may go on at once.
    assert recorded(await commit_one(fast, consume("ada"))).status is Status.SUCCESS
    await slow.close()
    await fast.close()


async def test_a_turn_that_its_owner_never_takes_runs_out(server: RedisServer) -> None:
    """A server that died in its turn holds the others up for half a second at most."""
    (store,) = await opened(server, 1)
    keys = UserKeys("ada")
    with server.client() as client:
        client.set(keys.lease, "somebody", px=200)
        assert recorded(await commit_one(store, top_up("ada", 5))).balance_after == 5
        assert client.get(keys.lease) is None
    await store.close()


async def test_what_is_recorded_while_it_is_read_is_not_taken_for_damage(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there at the first look, and its account is at the second."""
    reader, other = await opened(server, 2)
    read, calls = reader._reader.read, itertools.count()

    async def overtaken(*what: Any) -> Any:
        replies = await read(*what)
        if next(calls) == 0:
            await commit(other, top_up("ada", 5))
        return replies

    monkeypatch.setattr(reader._reader, "read", overtaken)
    found = await reader.transaction("ada", 1)
    assert found is not None
    assert found.amount == 5
    await reader.close()
    await other.close()


class Broken:
    """A topology that stores what it is given, and then fails as nobody expected."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    async def run(self, requests: Sequence[Request], *, confirm: bool = False) -> list[Any]:
        replies = await self._topology.run(requests, confirm=confirm)
        if any(request.command[0] == "commit" for request in requests):
            raise RuntimeError
        return replies


async def test_after_an_unexpected_error_nobody_is_told_that_nothing_was_stored(
    server: RedisServer,
) -> None:
    """The engine would commit the group again, and a charge without a key would be made twice."""
    (store,) = await opened(server, 1)
    await commit(store, top_up("ada", 5), top_up("bob", 5))
    sound, store._writer._topology = store._topology, Broken(store._topology)  # type: ignore[assignment]
    engine = Engine(store, lambda: BUILT_IN)
    with pytest.raises(StoreUnavailableError):
        await engine.submit([consume("ada"), consume("bob")])
    store._writer._topology = sound
    assert [(await store.account(user)).balance for user in ("ada", "bob")] == [3, 3]
    await store.close()


async def test_a_stale_memory_of_an_account_never_decides(server: RedisServer) -> None:
    """What a server remembers is a guess: a denial on an old balance is decided again."""
    one, other = await opened(server, 2)
    assert recorded(await commit_one(one, consume("ada"))).status is Status.DENIED
    await commit(other, top_up("ada", 2))
    remembered = one._cache.get("ada")
    assert remembered is not None
    assert (remembered[0].balance, remembered[0].transaction_count) == (0, 1)
    assert recorded(await commit_one(one, consume("ada"))).status is Status.SUCCESS
    await one.close()
    await other.close()


async def test_thousands_of_conflicts_only_make_a_write_wait() -> None:
    """The pause grows no further; a number as large as two to their power would fit no float."""
    write = AccountWrite(UserKeys("ada"), (), (), (), lambda _: ((), None), conflicts=5000)
    await asyncio.wait_for(_pause([write]), timeout=1)
