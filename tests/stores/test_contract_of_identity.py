"""What `stores/interface.py` promises of a ledger's identity, for every store."""

import re

from entitlements_server.stores.interface import LedgerIdentity, Store
from support.kinds import Kind
from support.ledger import record, top_up


async def test_a_new_ledger_has_a_random_id_and_the_first_generation(store: Store) -> None:
    identity = await store.identity()
    assert re.fullmatch("[0-9a-f]{32}", identity.id)
    assert identity.generation == 1


async def test_two_ledgers_have_different_ids(kind: Kind) -> None:
    ids = []
    for _ in range(2):
        store = await kind.open()
        ids.append((await store.identity()).id)
        await store.close()
        kind = kind.fresh()
    assert ids[0] != ids[1]


async def test_an_identity_stays_when_the_store_is_opened_again(durable_kind: Kind) -> None:
    store = await durable_kind.open()
    identity = await store.identity()
    await record(store, top_up("ada", 1))
    await durable_kind.abandon(store)
    store = await durable_kind.open()
    assert await store.identity() == identity
    await store.close()


async def test_an_adopted_identity_replaces_the_first_for_good(durable_kind: Kind) -> None:
    store = await durable_kind.open()
    original = LedgerIdentity.new()
    await store.adopt(original.successor)
    assert await store.identity() == LedgerIdentity(original.id, 2)
    await durable_kind.abandon(store)
    store = await durable_kind.open()
    assert await store.identity() == LedgerIdentity(original.id, 2)
    await store.close()


async def test_an_identity_is_adopted_at_once(store: Store) -> None:
    identity = LedgerIdentity.new().successor
    await store.adopt(identity)
    assert await store.identity() == identity
