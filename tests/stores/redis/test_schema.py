import pytest

from entitlements_server.ledger.commands import Refund
from entitlements_server.ledger.outcomes import Replayed
from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import Store
from entitlements_server.stores.redis.schema import BUCKETS, CHUNK, UserKeys, bucket_of
from support.ledger import commit, commit_one, consume, recorded, rule_at, top_up, whole_history
from support.redis import RedisServer


@pytest.mark.parametrize(
    "user_id", ["{", "}", "{}", "{ent:1}", "a{b}c", "{}{x}", ":", "*[?]", "ü€𝄞"]
)
async def test_a_user_id_may_hold_any_visible_character(store: Store, user_id: str) -> None:
    """Braces, colons and what else means something to Redis mean nothing in a user id."""
    charge = recorded((await commit(store, top_up(user_id, 9, "k"), consume(user_id, "{k}")))[1])
    await commit(store, Refund(user_id=user_id, transaction_id=charge.transaction_id))
    assert isinstance(await commit_one(store, consume(user_id, "{k}")), Replayed)
    assert (await store.account(user_id)).balance == 9
    assert [one.sequence for one in await whole_history(store, user_id)] == [1, 2, 3]
    assert [one.user_id for one in await whole(store)] == [user_id]


async def whole(store: Store) -> list[Account]:
    found: list[Account] = []
    cursor = ""
    while True:
        page = await store.accounts(cursor, 7)
        found += page.accounts
        cursor = page.next_cursor
        if not cursor:
            return found


async def test_a_history_goes_on_over_the_pieces_it_is_stored_in(store: Store) -> None:
    """A page reads the same wherever it begins; no place is missing at the seams."""
    count = 2 * CHUNK + 3
    for start in range(0, count, 1000):
        await store.commit([top_up("ada", 1)] * min(1000, count - start), rule_at())
    for before in (CHUNK, CHUNK + 1, CHUNK + 2, 2 * CHUNK + 1, 2 * CHUNK + 2, count + 1, 1 << 53):
        page = await store.history("ada", before, 1000)
        newest = min(before - 1, count)
        assert [one.sequence for one in page] == list(range(newest, max(newest - 1000, 0), -1))
        assert [one.balance_after for one in page] == [one.sequence for one in page]
    for sequence in (1, CHUNK, CHUNK + 1, count):
        found = await store.transaction("ada", sequence)
        assert found is not None
        assert found.sequence == sequence
    assert await store.transaction("ada", count + 1) is None
    assert await store.transaction("ada", 0) is None


async def test_all_keys_of_a_user_share_one_slot(server: RedisServer) -> None:
    """Whatever a user is called, the hash tag is the bucket's."""
    for user_id in ("ada", "{other}", "}{"):
        keys = UserKeys(user_id)
        tag = f"{{ent:{bucket_of(user_id)}}}"
        names = (
            keys.accounts,
            keys.users,
            keys.bound,
            keys.refunds,
            keys.lease,
            keys.replication_barrier,
        )
        assert all(name.startswith(tag) for name in (*names, keys.chunk(0), keys.chunk(9)))


def test_a_user_is_in_the_same_bucket_for_ever() -> None:
    """The bucket follows from the user id alone: it must not change from release to release."""
    assert BUCKETS == 1024
    assert [bucket_of(user_id) for user_id in ("ada", "ü", "user-1")] == [872, 469, 532]
