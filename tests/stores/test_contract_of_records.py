"""Every store keeps every field, of this version and of others, wherever a record goes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields, replace

from entitlements_server.ledger.catalogue import Catalogue, Feature
from entitlements_server.ledger.commands import Command, Consume, SetBalance, TopUp
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.encoding import decode_transaction, encode_transaction
from entitlements_server.ledger.outcomes import Outcome, Recorded
from entitlements_server.ledger.values import Account, Draw, Facts, Kind, Status, Transaction
from entitlements_server.maintenance.copy import copy
from entitlements_server.maintenance.export import Export
from entitlements_server.maintenance.rows import row_of
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.interface import Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.postgresql.changes import Place
from entitlements_server.stores.postgresql.store import PostgresqlStore
from entitlements_server.stores.redis.schema import UserKeys
from entitlements_server.stores.redis.store import RedisStore
from entitlements_server.stores.redis.topology import Request
from entitlements_server.stores.sqlite import SqliteStore
from support.fields import TRANSACTION, UNUSUAL, names_of, sample
from support.kinds import Kind as StoreKind
from support.ledger import NOW_US, all_accounts, commit, decided, record, recorded, rule_at, top_ups

LAPSED = Kind(77)
"""A kind that only the tests have."""


OTHERS: dict[str, dict[str, Any]] = {
    "quantity": {"kind": Kind.CONSUME, "amount": 0, "balance_after": 0, "quantity": 2},
    "draws": {"draws": (Draw("1-x", 5, 60),), "expire_time_us": 60},
    "expire_time_us": {"draws": (Draw("1-x", 5, 2**53 - 1),), "expire_time_us": 2**53 - 1},
    "lifetime_us": {"draws": (Draw("1-x", 5, 67),), "lifetime_us": 60},
    "access_until_us": {
        "sequence": 2,
        "kind": Kind.CONSUME,
        "feature": "f",
        "event_id": "e",
        "cost": 2,
        "amount": -2,
        "balance_after": 3,
        "access_until_us": 2**53 - 1,
    },
    "unavailable": {
        "sequence": 2,
        "kind": Kind.CONSUME,
        "status": Status.DENIED,
        "cost": 2,
        "amount": 0,
        "unavailable": 4,
    },
}
"""Fields that mean something only beside others."""


def every_field() -> list[Transaction]:
    """A history for each field of a transaction, with that field set; all for users of their own."""
    made = []
    for name in names_of(Transaction):
        changes = {"user_id": f"of-{name}", **(OTHERS.get(name) or sample(Transaction, name))}
        if name == "sequence":
            changes |= {"sequence": 2, "balance_after": 10}
        if changes.get("sequence"):  # a history begins at 1, so it has a second line
            made.append(replace(TRANSACTION, user_id=f"of-{name}"))
        if name == "refunded_transaction_id":  # belongs to refunds only, see below
            continue
        made.append(replace(TRANSACTION, **changes))
    return made


def refunded() -> list[Transaction]:
    charge = replace(
        TRANSACTION, sequence=2, kind=Kind.CONSUME, cost=2, amount=-2, balance_after=3, user_id="r"
    )
    refund = replace(
        TRANSACTION,
        sequence=3,
        kind=Kind.REFUND,
        amount=2,
        balance_after=5,
        user_id="r",
        refunded_transaction_id=charge.transaction_id,
    )
    return [replace(TRANSACTION, user_id="r"), charge, refund]


def carried() -> list[Transaction]:
    """What a version that does not exist yet may write."""
    stored = encode_transaction(replace(TRANSACTION, user_id="newer", kind=LAPSED))
    newer = stored.replace(b',"2":', b',"60":["x",1.50],"2":')[:-1] + b',"61":{"a":"b \\"c\\""}}'
    return [decode_transaction(newer)]


async def expect(store: Store, wanted: list[Transaction]) -> None:
    for one in wanted:
        assert await store.transaction(one.user_id, one.sequence) == one
        assert one in await store.history(one.user_id, 2**53, 10)
        assert one in await store.history_after(one.user_id, 0, 10)
    assert [str(finding) async for finding in verify(store)] == []


async def test_each_field_of_a_transaction_comes_back_wherever_it_goes(
    kind: StoreKind, tmp_path: Path
) -> None:
    wanted = [*every_field(), *refunded(), *carried()]
    assert set(names_of(Transaction)) == {
        name for name in names_of(Transaction) for one in wanted if differs(one, name)
    }
    store = await kind.open()
    await store.append(wanted)
    await expect(store, wanted)
    accounts = sorted(await all_accounts(store), key=lambda one: one.user_id)
    if kind.durable:
        await store.close()
        store = await kind.open()
        await expect(store, wanted)
    assert sorted(await all_accounts(store), key=lambda one: one.user_id) == accounts
    away = MemoryStore()
    await copy(store, away, resume=False)
    await expect(away, wanted)
    assert sorted(await all_accounts(away), key=lambda one: one.user_id) == accounts
    trail = tmp_path / "trail.jsonl"
    await Export(store, "here", trail, "jsonl").run()
    rows = [json.loads(line) for line in trail.read_text("utf-8").splitlines()]
    assert all(row_of(one) in rows for one in wanted)
    await store.close()


def differs(one: Transaction, name: str) -> bool:
    (known,) = (field for field in fields(Transaction) if field.name == name)
    return bool(getattr(one, name) != known.default)


async def test_each_field_of_a_committed_transaction_is_still_there_after_flush_and_reopening(
    durable_kind: StoreKind,
) -> None:
    """As the rules fill them in, the time of the decision included."""
    store = await durable_kind.open()
    commands: list[Command] = [
        TopUp(user_id="ada", amount=5, reason=UNUSUAL, idempotency_key="a", caller="billing"),
        Consume(user_id="ada", feature="full_distribution", event_id="e-1", idempotency_key="b"),
    ]
    made = await record(store, *commands, now_us=NOW_US)
    made += await record(store, *top_ups(1), now_us=NOW_US - 5)
    assert [one.decision_time_us for one in made] == [0, 0, NOW_US - 5]
    assert [bool(one.salt) for one in made] == [True, False, False]
    await expect(store, made)
    await store.close()
    store = await durable_kind.open()
    await expect(store, made)
    await store.close()


async def test_each_field_of_an_account_is_kept_and_follows_from_its_history(
    kind: StoreKind,
) -> None:
    catalogue = Catalogue(
        (Feature(feature_id="report", cost=3, title="Report", access_us=60_000_000),)
    )
    commands: list[Command] = [
        *top_ups(3),
        TopUp(user_id="ada", amount=1, lifetime_us=60_000_000),
        Consume(user_id="ada", feature="report", event_id="e-1"),
        Consume(user_id="ada", feature="report"),
        TopUp(user_id="ada", amount=1, lifetime_us=60_000_000),
        *top_ups(2, "bob"),
    ]
    store = await kind.open()
    decided(await store.commit(commands, rule_at(NOW_US, catalogue)))
    account = await store.account("ada")
    for field in fields(Account):
        assert field.name == "carried" or getattr(account, field.name) != field.default
    await expect(store, [])
    accounts = await all_accounts(store)
    assert account in accounts
    if kind.durable:
        await store.close()
        store = await kind.open()
    assert await store.account("ada") == account
    assert await all_accounts(store) == accounts
    away = MemoryStore()
    await copy(store, away, resume=False)
    assert await away.account("ada") == account
    await store.close()


def settling(rule: Rule) -> Rule:
    """The rules, with two transactions of a made-up kind before each one that they record."""

    def decide(account: Account, facts: Facts, command: Command) -> Outcome:
        outcome = rule(account, facts, command)
        if not isinstance(outcome, Recorded) or not account.transaction_count:
            return outcome
        own = outcome.transaction
        settlements = tuple(
            replace(
                TRANSACTION,
                user_id=own.user_id,
                sequence=own.sequence + number,
                kind=LAPSED,
                amount=-1,
                balance_after=account.balance - 1 - number,
                create_time_us=own.create_time_us,
            )
            for number in range(2)
        )
        moved = replace(own, sequence=own.sequence + 2, balance_after=own.balance_after - 2)
        return Recorded(moved, settlements)

    return decide


async def test_what_a_decision_settles_is_recorded_before_its_own_transaction_in_one_group(
    kind: StoreKind,
) -> None:
    store = await kind.open()
    await record(store, TopUp(user_id="ada", amount=100))
    commands: list[Command] = [
        Consume(user_id="ada", feature="full_distribution", idempotency_key=f"k-{number}")
        for number in range(3)
    ]
    outcomes = await store.commit(commands, settling(rule_at()))
    assert [recorded(one).sequence for one in outcomes] == [4, 7, 10]
    again = await store.commit(commands, settling(rule_at()))
    assert [one.transactions for one in again] == [(), (), ()]
    if kind.durable:
        await kind.abandon(store)
        store = await kind.open()
    history = await store.history_after("ada", 0, 100)
    assert [one.kind for one in history] == [Kind.TOP_UP, *[LAPSED, LAPSED, Kind.CONSUME] * 3]
    assert [one.balance_after for one in history][-3:] == [91, 90, 88]
    await expect(store, list(history))
    await store.close()


async def test_at_most_three_transactions_are_recorded_by_a_decision() -> None:
    with pytest.raises(AssertionError):
        Recorded(TRANSACTION, (TRANSACTION,) * 3)


async def test_due_times_are_read_oldest_first_and_are_gone_with_what_was_due(
    kind: StoreKind,
) -> None:
    def lasting(user_id: str, seconds: int) -> TopUp:
        return TopUp(user_id=user_id, amount=1, lifetime_us=seconds * 1_000_000)

    async def due(seconds: int, limit: int = 10) -> list[str]:
        return list(await store.due(NOW_US + seconds * 1_000_000, limit))

    store = await kind.open()
    await record(store, *(lasting(f"u-{n}", n) for n in (5, 3, 9, 7)), *top_ups(1, "u-1"))
    for flush in (False, True):
        if flush:
            await store.accounts("", 1)
        assert await due(8) == ["u-3", "u-5", "u-7"]
        assert await due(9, 2) == ["u-3", "u-5"]
        assert await due(2) == []
    await record(store, *(SetBalance(user_id=user, balance=0) for user in ("u-3", "u-5")))
    await record(store, lasting("u-5", 8))
    for flush in (False, True):
        if flush:
            await store.accounts("", 1)
        assert await due(100) == ["u-7", "u-5", "u-9"]
        assert await due(100, 1) == ["u-7"]
    if kind.durable:
        await kind.abandon(store)
        store = await kind.open()
    assert await due(100) == ["u-7", "u-5", "u-9"]
    assert [str(finding) async for finding in verify(store)] == []
    await store.close()


async def changes_of(store: Store, users: list[str]) -> list[tuple[str, int]]:
    """The tail of a store, from where it keeps it, for these users in order."""
    if isinstance(store, MemoryStore):
        return store._changes
    await store.accounts("", 1)
    if isinstance(store, SqliteStore):
        rows = await store._connections.read(
            lambda database: list(
                database._connection.execute(
                    "SELECT a.user_id, c.sequence FROM changes AS c"
                    " JOIN accounts AS a ON a.number = c.account ORDER BY c.position"
                )
            )
        )
        return [(user_id, sequence) for user_id, sequence in rows]
    if isinstance(store, PostgresqlStore):
        changes = await store.changes(Place(), 1000)
        return [(one.place.user_id, one.place.sequence) for one in changes]
    assert isinstance(store, RedisStore)
    found = []
    for user_id in users:
        keys = UserKeys(user_id)
        request = Request(keys.bucket, ("LRANGE", keys.changes, 0, -1))
        (entries,) = await store._reader.read([request])
        for entry in entries:
            first, last, user = entry.decode().split(" ")
            assert user == user_id
            found += [(user, sequence) for sequence in range(int(first), int(last) + 1)]
    return found


async def test_the_tail_names_every_change_once_in_the_order_of_commits(kind: StoreKind) -> None:
    """Over the whole ledger, or on Redis over those of a bucket."""
    store = await kind.open()
    users = ["ada", "bob"]
    wanted: list[tuple[str, int]] = []
    for number in range(12):
        user = users[number * 7 % 5 % 2]
        made = await record(store, *top_ups(number % 3 + 1, user))
        wanted += [(one.user_id, one.sequence) for one in made]
        if kind.durable and number % 4 == 3:
            await kind.abandon(store)
            store = await kind.open()
    found = await changes_of(store, users)
    if isinstance(store, RedisStore):
        wanted.sort()
    assert found == wanted
    await store.close()


async def test_a_key_is_bound_to_the_newest_that_binds_it(durable_kind: StoreKind) -> None:
    """When a later version lets keys go, they are there for another."""
    store = await durable_kind.open()
    command = TopUp(user_id="ada", amount=1, idempotency_key="k-1")

    def forgetful(account: Account, facts: Facts, asked: Command) -> Outcome:
        return rule_at()(account, msgspec.structs.replace(facts, bound=None), asked)

    first, second = [recorded((await store.commit([command], forgetful))[0]) for _ in range(2)]
    for _ in range(2):
        (again,) = await commit(store, command)
        assert again.transactions == ()
        assert again.transaction == second != first  # type: ignore[union-attr]
        await store.accounts("", 1)
    await store.close()
    store = await durable_kind.open()
    assert (await commit(store, command))[0].transaction == second  # type: ignore[union-attr]
    await store.close()


@pytest.mark.parametrize("page", [1, 4, 9])
async def test_a_history_is_read_forward_page_by_page(store: Store, page: int) -> None:
    made = []
    for _ in range(4):
        made += await record(store, *top_ups(5))
        await asyncio.sleep(0)
    found: list[Transaction] = []
    while more := await store.history_after("ada", len(found), page):
        assert len(more) <= page
        found += more
    assert found == made
    assert await store.history_after("nobody", 0, page) == []
    assert await store.history_after("ada", 2**53, page) == []


def test_every_status_and_kind_can_be_carried() -> None:
    changes: dict[str, Any] = {"kind": Kind(123), "status": Status(45)}
    one = replace(TRANSACTION, **changes)
    assert decode_transaction(encode_transaction(one)) == one
