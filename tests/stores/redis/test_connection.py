import asyncio
from collections.abc import Callable

import pytest

from entitlements_server.ledger.outcomes import Replayed
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import Store, StoreUnavailableError
from entitlements_server.stores.redis import connection
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.proxy import proxied
from support.redis import RedisServer


def once(words: bytes) -> Callable[[bytes], bool]:
    """Says yes to the first message that has these words in it, and never again."""
    left = [True]

    def says(sent: bytes) -> bool:
        return words in sent and bool(left) and left.pop()

    return says


async def back(store: Store) -> None:
    """Wait until the store can be reached again."""
    for _ in range(3000):
        try:
            return await store.ping()
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
    raise AssertionError


async def test_a_charge_whose_reply_was_lost_is_found_and_not_repeated(server: RedisServer) -> None:
    """The connection breaks after a charge without a key: it is charged once, and answered."""
    async with proxied(server.port) as proxy:
        store = await open_store(proxy.url)
        await commit(store, top_up("ada", 10))
        proxy.lose_replies = once(b"EVALSHA")
        charge = recorded(await commit_one(store, consume("ada")))
        assert proxy.broken.is_set()
        assert (await whole_history(store, "ada"))[1:] == [charge]
        assert (await store.account("ada")).balance == 8
        await store.close()


async def test_a_lost_reply_is_settled_although_others_have_written_since(
    server: RedisServer,
) -> None:
    """Another server's charge after the lost one is not mistaken for it."""
    async with proxied(server.port) as proxy:
        store, other = await open_store(proxy.url), await open_store(server.url)
        await commit(store, top_up("ada", 10))
        proxy.lose_replies = once(b"EVALSHA")
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
    server: RedisServer,
) -> None:
    """An attempt that is stuck on its way is decided again; when it arrives, it is too late."""
    async with proxied(server.port) as proxy:
        store = await open_store(proxy.url)
        await commit(store, top_up("ada", 10))
        proxy.hold = once(b"EVALSHA")
        charge = recorded(await commit_one(store, consume("ada")))
        assert proxy.broken.is_set()
        await proxy.release()
        assert (await whole_history(store, "ada"))[1:] == [charge]
        assert (await store.account("ada")).balance == 8
        await store.close()


async def test_a_stuck_charge_that_arrives_before_the_repetition_is_the_one(
    server: RedisServer,
) -> None:
    """An attempt that arrives late, but before anything else was stored, is not repeated."""
    async with proxied(server.port) as proxy:
        store = await open_store(proxy.url)
        await commit(store, top_up("ada", 10))
        proxy.hold = once(b"EVALSHA")
        pending = asyncio.create_task(commit_one(store, consume("ada")))
        proxy.gate.clear()
        await proxy.broken.wait()
        await proxy.release()
        proxy.gate.set()
        charge = recorded(await pending)
        assert (await whole_history(store, "ada"))[1:] == [charge]
        await store.close()


async def test_a_connection_that_keeps_breaking_is_reported_and_the_key_settles_it(
    server: RedisServer,
) -> None:
    """When it cannot be found out what was stored, that is said, and a retry finds out."""
    async with proxied(server.port) as proxy:
        store = await open_store(proxy.url)
        await commit(store, top_up("ada", 10))
        proxy.lose_replies = lambda sent: b"EVALSHA" in sent or b"HGET" in sent
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada", "key"))
        proxy.lose_replies = lambda _: False
        await back(store)
        assert isinstance(await commit_one(store, consume("ada", "key")), Replayed)
        assert (await store.account("ada")).balance == 8
        await store.close()


async def test_while_the_server_is_away_everything_says_so_and_then_goes_on(
    own_server: RedisServer,
) -> None:
    """Every method raises while Redis is down; once it is back, all of them work again."""
    store = await open_store(own_server.url)
    top = recorded(await commit_one(store, top_up("ada", 10)))
    own_server.kill()
    for call in (
        lambda: commit(store, consume("ada")),
        lambda: commit(store, consume("ada")),
        lambda: store.account("ada"),
        lambda: store.transaction("ada", 1),
        lambda: store.history("ada", 10, 10),
        lambda: store.accounts("", 10),
        lambda: store.append([top]),
        store.ping,
    ):
        with pytest.raises(StoreUnavailableError):
            await call()
    own_server.start()
    await back(store)
    charge = recorded(await commit_one(store, consume("ada")))
    assert (charge.sequence, charge.balance_after) == (2, 8)
    await store.close()


async def test_a_server_that_hangs_is_given_up(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call waits for ever on a server that keeps its connections and answers nothing."""
    monkeypatch.setattr(connection, "_REPLY_S", 0.3)
    store = await open_store(own_server.url)
    await commit(store, top_up("ada", 10))
    own_server.pause()
    with pytest.raises(StoreUnavailableError):
        await commit(store, consume("ada", "key"))
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    own_server.resume()
    await back(store)
    await commit(store, consume("ada", "key"))
    assert (await store.account("ada")).balance == 8
    await store.close()


async def test_a_server_whose_memory_is_full_takes_nothing_and_loses_nothing(
    own_server: RedisServer,
) -> None:
    """Out of memory, writes fail whole; reads go on."""
    store = await open_store(own_server.url)
    await commit(store, top_up("ada", 10))
    with own_server.client() as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada"))
        assert (await store.account("ada")).balance == 10
        client.config_set("maxmemory", "0")
    assert recorded(await commit_one(store, consume("ada"))).sequence == 2
    await store.close()


async def test_a_server_that_forgot_the_script_is_given_it_again(server: RedisServer) -> None:
    """SCRIPT FLUSH, or a replica that took over, is no more than one more round trip."""
    store = await open_store(server.url)
    await commit(store, top_up("ada", 10))
    with server.client() as client:
        client.script_flush()
    assert recorded(await commit_one(store, consume("ada"))).sequence == 2
    await store.close()


async def test_a_cancelled_commit_leaves_the_store_usable(server: RedisServer) -> None:
    """Whatever a cancelled call had sent, the next one is decided on what is there."""
    async with proxied(server.port) as proxy:
        store = await open_store(proxy.url)
        await commit(store, top_up("ada", 10))
        proxy.hold = once(b"EVALSHA")
        pending = asyncio.create_task(commit(store, consume("ada")))
        await proxy.broken.wait()
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        await proxy.release()
        charge = recorded(await commit_one(store, consume("ada")))
        assert charge.balance_after == 10 - 2 * (charge.sequence - 1)
        await store.close()
        await store.close()
