import asyncio

import pytest
from redis.crc import key_slot

from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.redis.schema import TAGS, bucket_of
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.redis import START_SECONDS, RedisClusterServers, RedisServer, flush

pytestmark = pytest.mark.slow

SLOT = key_slot(TAGS[bucket_of("ada")].encode())


def owner(cluster: RedisClusterServers) -> RedisServer:
    """The server that has the slot of user ada."""
    with cluster.nodes[0].client() as client:
        for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
            if first <= SLOT <= last:
                return next(node for node in cluster.nodes if node.port == port)
    raise AssertionError


async def test_a_slot_may_move_while_the_ledger_is_in_use(
    three_servers: RedisClusterServers,
) -> None:
    """While it moves its users are read and not written; then they are followed to their place."""
    flush(three_servers)
    store = await open_store(three_servers.url)
    await commit(store, top_up("ada", 10))
    one = owner(three_servers)
    other = next(node for node in three_servers.nodes if node is not one)
    with one.client() as source, other.client() as target:
        ids = [client.execute_command("CLUSTER MYID").decode() for client in (source, target)]
        target.execute_command("CLUSTER SETSLOT", SLOT, "IMPORTING", ids[0])
        source.execute_command("CLUSTER SETSLOT", SLOT, "MIGRATING", ids[1])
        for key in source.execute_command("CLUSTER GETKEYSINSLOT", SLOT, 100):
            source.execute_command("MIGRATE", "127.0.0.1", other.port, key, 0, 5000)
            # Redis refuses scripts on keys of which some may be here and some there.
            with pytest.raises(StoreUnavailableError):
                await commit(store, consume("ada"))
        assert (await store.account("ada")).balance == 10
        pending = asyncio.create_task(commit_one(store, consume("ada", "key")))
        for client in (target, source):
            client.execute_command("CLUSTER SETSLOT", SLOT, "NODE", ids[1])
        recorded(await pending)
        recorded(await commit_one(store, consume("ada")))
        assert (await store.account("ada")).balance == 6
    assert [one.balance_after for one in await whole_history(store, "ada")] == [10, 8, 6]
    await store.close()


async def test_when_a_master_dies_its_replica_takes_over() -> None:
    """The ledger says that it is unavailable until then, and goes on where it was."""
    with RedisClusterServers(replicas=1, node_timeout_ms=500) as cluster:
        careful = await open_store(f"{cluster.url}?replicas=1")
        await commit(careful, top_up("ada", 10, "key"))
        await careful.close()
        store = await open_store(cluster.url)
        owner(cluster).kill()
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada", "charge"))
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    await commit(store, consume("ada", "charge"))
                    break
                except StoreUnavailableError:
                    await asyncio.sleep(0.01)
        assert (await store.account("ada")).balance == 8
        await store.ping()
        await store.close()
