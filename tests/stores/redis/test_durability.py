import asyncio

import pytest

from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.redis import connection, topology
from support.ledger import commit, consume, top_up
from support.redis import START_SECONDS, RedisClusterServers, RedisServer


async def refusal(url: str) -> str:
    with pytest.raises(StoreConfigurationError) as refused:
        await open_store(url)
    return str(refused.value)


WEAKER = [
    ("appendonly", "no", "it has appendonly no"),
    ("appendfsync", "everysec", "it has appendfsync everysec"),
    ("appendfsync", "no", "it has appendfsync no"),
    ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite yes"),
    ("maxmemory-policy", "allkeys-lru", "set maxmemory-policy to noeviction"),
]


@pytest.mark.parametrize(("setting", "value", "words"), WEAKER)
async def test_a_server_that_could_lose_acknowledged_writes_is_refused(
    own_server: RedisServer, setting: str, value: str, words: str
) -> None:
    """A weaker setting stops the start, and the message names it and what mends it."""
    with own_server.client() as client:
        client.config_set(setting, value)
    assert words in await refusal(own_server.url)


@pytest.mark.parametrize(("setting", "value", "words"), WEAKER)
async def test_a_setting_that_is_weakened_while_the_ledger_is_in_use_stops_it_until_it_is_mended(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    """Health asks every second, and the settings are looked at again after CHECK_S."""
    assert connection.CHECK_S <= 30
    monkeypatch.setattr(connection, "CHECK_S", 0.0)
    store = await open_store(own_server.url)
    await commit(store, top_up("ada", 10))
    await store.ping()
    with own_server.client() as client:
        before = client.config_get(setting)[setting]
        client.config_set(setting, value)
        with pytest.raises(StoreUnavailableError, match="UnfitError") as refused:
            await store.ping()
        assert words in str(refused.value.__cause__)
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada"))
        client.config_set(setting, before)
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await store.ping()
                break
            except StoreUnavailableError:
                await asyncio.sleep(0.01)
    await commit(store, consume("ada"))
    await store.close()


async def test_one_node_of_a_cluster_is_no_ledger(three_servers: RedisClusterServers) -> None:
    """It has only some of the users, and would answer MOVED for the others."""
    assert "write redis+cluster://" in await refusal(three_servers.nodes[0].url)


@pytest.mark.parametrize(
    ("appendonly", "appendfsync", "durability"),
    [("yes", "everysec", "everysec"), ("yes", "no", "none"), ("no", "always", "none")],
)
async def test_a_weaker_promise_is_accepted_when_it_is_named(
    own_server: RedisServer, appendonly: str, appendfsync: str, durability: str
) -> None:
    """An operator who names the weaker promise gets it."""
    with own_server.client() as client:
        client.config_set("appendonly", appendonly)
        client.config_set("appendfsync", appendfsync)
    await (await open_store(f"{own_server.url}?durability={durability}")).close()


async def test_a_named_promise_is_still_held_against_the_server(own_server: RedisServer) -> None:
    """Naming everysec fails if the server promises less than that."""
    with own_server.client() as client:
        client.config_set("appendonly", "no")
    assert "appendonly no" in await refusal(f"{own_server.url}?durability=everysec")


async def test_where_config_is_forbidden_the_operator_has_to_say_so() -> None:
    """Nothing is presumed of a server that does not say how it persists."""
    with RedisServer(user="ledger on >secret ~* +@all -config") as server:
        url = f"redis://ledger:secret@127.0.0.1:{server.port}"
        assert "durability=unknown" in await refusal(url)
        await (await open_store(f"{url}?durability=unknown")).close()


async def test_a_wrong_password_is_reported_without_repeating_it(own_server: RedisServer) -> None:
    """The message says what the server rejects and does not repeat it."""
    with own_server.client() as client:
        client.config_set("requirepass", "right")
    for credentials in ("", ":wrong@", "nobody:wrong@"):
        said = await refusal(f"redis://{credentials}127.0.0.1:{own_server.port}")
        assert "rejects the user or password" in said
        assert "wrong" not in said


async def test_an_unreachable_server_is_reported_with_its_address() -> None:
    """A start without Redis fails at once and says where it was looked for."""
    assert "127.0.0.1:1 cannot be used" in await refusal("redis://127.0.0.1:1")
    assert "127.0.0.1:1 cannot be used" in await refusal("redis+cluster://127.0.0.1:1")


async def test_a_single_server_is_no_cluster(own_server: RedisServer) -> None:
    """A wrong scheme is an error at the start."""
    assert "cannot be used" in await refusal(f"redis+cluster://127.0.0.1:{own_server.port}")


async def test_a_replica_is_refused(own_server: RedisServer) -> None:
    """Writes go to a master, so a replica cannot be the ledger."""
    with RedisServer(replicaof=f"127.0.0.1 {own_server.port}") as replica:
        assert "name its master" in await refusal(replica.url)


async def test_what_a_server_promises_is_looked_at_again_after_a_loss(
    own_server: RedisServer,
) -> None:
    """A server that comes back with weaker settings gets no writes."""
    store = await open_store(own_server.url)
    await commit(store, top_up("ada", 10))
    own_server.kill()
    own_server.config["appendfsync"] = "everysec"
    own_server.start()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada"))
    await store.close()


async def test_with_replicas_asked_for_nothing_is_acknowledged_without_them(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write is acknowledged once a replica has it; a replay of one waits for it just so."""
    monkeypatch.setattr(topology, "_REPLICA_WAIT_MS", 1000)
    with RedisServer(replicaof=f"127.0.0.1 {own_server.port}") as replica:
        own_server.wait_for_replica()
        store = await open_store(f"{own_server.url}?replicas=1")
        await commit(store, top_up("ada", 10), consume("ada", "first"))
        with replica.client() as client:
            assert client.dbsize() > 0
        replica.kill()
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada", "second"))
        # It is on the master by now, and still not where it was asked to be.
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada", "second"))
        # Nor does another server acknowledge it, which only finds that it was made.
        other = await open_store(f"{own_server.url}?replicas=1")
        with pytest.raises(StoreUnavailableError):
            await commit(other, consume("ada", "second"))
        await other.close()
        replica.start()
        own_server.wait_for_replica()
        await commit(store, consume("ada", "second"))
        assert (await store.account("ada")).balance == 6
        await store.close()
