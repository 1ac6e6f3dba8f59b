"""What `stores/interface.py` promises of damaged records: they fail their own user, and nobody else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import apsw
import pytest
import redis
from msgspec.structs import replace
from structlog.testing import capture_logs

from entitlements_server.engine.engine import Engine
from entitlements_server.errors import CallError
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.ledger.outcomes import Outcome, Recorded, Replayed
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import Failed, Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.redis.schema import UserKeys
from support.kinds import Kind, PostgresqlKind, RedisKind, SqliteKind
from support.ledger import commit, consume, record, top_up
from support.redis import RedisClusterServers

USERS = ("ada", "bob", "cyd", "dan", "eve")
BOB = UserKeys("bob")

Damage = Callable[[Kind], None]


def sql(statement: str) -> Damage:
    """Damage done to a file that nobody has open."""

    def damage(kind: Kind) -> None:
        assert isinstance(kind, SqliteKind)
        connection = apsw.Connection(str(kind.path))
        connection.execute(statement)
        assert connection.changes() == 1
        connection.close()

    return damage


def redis_commands(*commands: Sequence[Any]) -> Damage:
    """Damage done to the Redis server that has the keys."""

    def damage(kind: Kind) -> None:
        assert isinstance(kind, RedisKind)
        servers = kind.servers
        nodes = servers.nodes if isinstance(servers, RedisClusterServers) else [servers]
        done = 0
        for node in nodes:
            with node.client() as client, suppress(redis.exceptions.ResponseError):
                for command in commands:
                    client.execute_command(*command)
                done += 1
        assert done == 1

    return damage


OF_BOB = "account = (SELECT number FROM accounts WHERE user_id = 'bob')"
SQLITE = {
    "account of a wrong type": 'UPDATE accounts SET stored = \'{"1":"bob","2":"x"}\''
    " WHERE user_id = 'bob'",
    "account that is no JSON": "UPDATE accounts SET stored = 'x,{' WHERE user_id = 'bob'",
    "account that is no text": "UPDATE accounts SET stored = CAST(x'ff' AS TEXT) WHERE user_id = 'bob'",
    "account that is nested too deeply": "UPDATE accounts SET stored = '{\"1\":' ||"
    " replace(hex(zeroblob(5000)), '00', '[') || '}' WHERE user_id = 'bob'",
    "account of another user": "UPDATE accounts SET stored ="
    " (SELECT stored FROM accounts WHERE user_id = 'ada') WHERE user_id = 'bob'",
    "account of another count": "UPDATE accounts SET transaction_count = 9 WHERE user_id = 'bob'",
    "account below zero": "UPDATE accounts SET stored = json_set(stored, '$.\"2\"', -1)"
    " WHERE user_id = 'bob'",
    "charge with status 7000000000": "UPDATE transactions SET stored ="
    f" json_set(stored, '$.\"5\"', 7000000000) WHERE sequence = 2 AND {OF_BOB}",
    "charge that is no JSON": f"UPDATE transactions SET stored = ']' WHERE sequence = 2 AND {OF_BOB}",
    "charge that is gone": f"DELETE FROM transactions WHERE sequence = 2 AND {OF_BOB}",
    "charge of another sequence": "UPDATE transactions SET stored ="
    f" json_set(stored, '$.\"3\"', 3) WHERE sequence = 2 AND {OF_BOB}",
    "key of another transaction": "UPDATE idempotency_keys SET sequence = 1"
    f" WHERE idempotency_key = 'k-1' AND {OF_BOB}",
}

CHUNK = BOB.chunk(0)
REDIS: dict[str, list[tuple[Any, ...]]] = {
    "account that is no account": [("HSET", BOB.accounts, "bob", "1.0 w x")],
    "account without a format": [("HSET", BOB.accounts, "bob", "x")],
    "account that is gone": [("HSET", BOB.accounts, "bob", "")],
    "accounts of another type": [("SET", BOB.accounts, "x")],
    "history of another type": [("SET", CHUNK, "x")],
    "history that is gone": [("DEL", CHUNK)],
    "history that is too long": [("RPUSH", CHUNK, "x")],
    "charge that is no transaction": [("LSET", CHUNK, 1, "1.0 w {}")],
    "charge of another format": [("LSET", CHUNK, 1, "x")],
    "keys of another type": [("SET", BOB.bound, "x")],
    "key that is bound to no number": [("HSET", BOB.bound, "k-1", "x")],
    "key of another transaction": [("HSET", BOB.bound, "k-1", "1")],
    "refunds of another type": [("SET", BOB.refunds, "x")],
    "refund that is no refund": [("HSET", BOB.refunds, "2", "x")],
    "change feed of another type": [("SET", BOB.changes, "x")],
    "lease of another type": [("HSET", BOB.lease, "x", "x")],
}


def postgresql(statement: str) -> Damage:
    """Damage done to the database behind a store."""

    def damage(kind: Kind) -> None:
        assert isinstance(kind, PostgresqlKind)
        assert kind.server.sql(f"{statement} RETURNING 1") == ["1"]

    return damage


OF_ROW = "user_id = 'bob' AND sequence = 2"
POSTGRESQL = {
    "account that is no account": "UPDATE entitlements.accounts SET state = '1.0 x'"
    " WHERE user_id = 'bob'",
    "account without a format": "UPDATE entitlements.accounts SET state = 'x' WHERE user_id = 'bob'",
    "account of another user": "UPDATE entitlements.accounts SET state ="
    " (SELECT state FROM entitlements.accounts WHERE user_id = 'ada') WHERE user_id = 'bob'",
    "account with transactions that is gone": "DELETE FROM entitlements.accounts"
    " WHERE user_id = 'bob'",
    "charge that is no transaction": "UPDATE entitlements.transactions SET body = '1.0 {}'"
    f" WHERE {OF_ROW}",
    "charge of another format": f"UPDATE entitlements.transactions SET body = 'x' WHERE {OF_ROW}",
    "charge that is gone": f"DELETE FROM entitlements.transactions WHERE {OF_ROW}",
    "charge of another sequence": "UPDATE entitlements.transactions SET body ="
    " (SELECT body FROM entitlements.transactions WHERE user_id = 'bob' AND sequence = 1)"
    f" WHERE {OF_ROW}",
    "key of another transaction": "UPDATE entitlements.keys SET sequence = 1"
    " WHERE user_id = 'bob' AND key = 'k-1'",
}
NOT_FOUND_BY_VERIFY = {
    "account that is gone",  # it is an account without transactions, as far as one can see
    "key that is bound to no number",
    "key of another transaction",
    "refund that is no refund",
    "lease of another type",
}

CASES = [
    *(pytest.param("sqlite", sql(one), name, id=f"sqlite-{name}") for name, one in SQLITE.items()),
    *(
        pytest.param("redis", redis_commands(*some), name, id=f"redis-{name}")
        for name, some in REDIS.items()
    ),
    *(
        pytest.param(store, postgresql(one), name, id=f"{store}-{name}")
        for name, one in POSTGRESQL.items()
        for store in ("postgresql", "pgbouncer-busy")
    ),
    *(
        pytest.param("cluster-busy", redis_commands(*REDIS[name]), name, id=f"cluster-{name}")
        for name in ("account that is no account", "history of another type")
    ),
]


@asynccontextmanager
async def opened(kind: Kind) -> AsyncIterator[Store]:
    store = await kind.open()
    try:
        yield store
    finally:
        await store.close()


async def fill(store: Store) -> dict[str, str]:
    """Two transactions for each user. Returns the id of each one's charge."""
    made = await record(store, *(top_up(user, 10) for user in USERS))
    made = await record(store, *(consume(user, "k-1") for user in USERS))
    return {one.user_id: one.transaction_id for one in made}


def group(charges: dict[str, str]) -> list[Command]:
    """For each user a replay, a charge and a refund: whatever there is, one of them needs it."""
    return [
        command
        for user in USERS
        for command in (
            consume(user, "k-1"),
            consume(user, "k-2"),
            Refund(user_id=user, transaction_id=charges[user], amount=1),
        )
    ]


async def submit(store: Store, commands: Sequence[Command]) -> list[Outcome | BaseException]:
    """Each in a submission of its own, all in one group."""
    engine = Engine(store, lambda: BUILT_IN)
    results = await asyncio.gather(
        *(engine.submit([command]) for command in commands), return_exceptions=True
    )
    await engine.close()
    flat: list[Outcome | BaseException] = []
    for one in results:
        if isinstance(one, BaseException):
            flat.append(one)
        else:
            (outcome,) = one
            assert not isinstance(outcome, Failed)
            flat.append(outcome)
    return flat


@pytest.mark.parametrize(("kind", "damage", "name"), CASES, indirect=["kind"])
async def test_a_damaged_record_fails_its_user_whole_and_nobody_else(
    kind: Kind, damage: Damage, name: str
) -> None:
    store = await kind.open()
    charges = await fill(store)
    await store.close()
    damage(kind)
    async with opened(kind) as store:
        await check(store, charges, name)


async def check(store: Store, charges: dict[str, str], name: str) -> None:
    commands = group(charges)
    with capture_logs() as lines:
        results = await submit(store, commands)
    references: set[str] = set()
    for command, result in zip(commands, results, strict=True):
        if command.user_id != "bob":
            assert isinstance(result, Recorded | Replayed), result
            continue
        assert isinstance(result, CallError), result
        assert result.reason == "RECORD_DAMAGED"
        assert result.metadata["reference"] in result.message
        references.add(result.metadata["reference"])
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["user_id"] == "bob"
    assert line["record"]
    assert references == {line["reference"]}
    for user in set(USERS) - {"bob"}:
        assert (await store.account(user)).balance == 7
    if name not in NOT_FOUND_BY_VERIFY:
        findings = [str(finding) async for finding in verify(store)]
        assert any("bob" in one or BOB.accounts[:9] in one for one in findings), findings
        assert not any(f"'{user}'" in one for user in ("cyd", "dan", "eve") for one in findings)


@pytest.mark.parametrize("kind", ["redis", "cluster-busy"], indirect=True)
async def test_an_account_of_a_newer_format_fails_its_user_and_nobody_else(kind: Kind) -> None:
    """A newer server has written it; this one changes nothing of it."""
    store = await kind.open()
    charges = await fill(store)
    redis_commands(("HSET", BOB.accounts, "bob", "2.0 w {}"))(kind)
    commands = group(charges)
    results = await submit(store, commands)
    for command, result in zip(commands, results, strict=True):
        if command.user_id == "bob":
            assert isinstance(result, ForeignFormatError)
        else:
            assert isinstance(result, Recorded | Replayed)
    findings = [str(finding) async for finding in verify(store)]
    assert any("user 'bob'" in one and "format 2.0" in one for one in findings)
    assert all("bob" in one for one in findings)
    await store.close()


async def test_a_damaged_account_in_memory_fails_its_user_and_nobody_else() -> None:
    """Nothing decodes it, so the engine bisects the group until it stands alone."""
    store = MemoryStore()
    charges = await fill(store)
    accounts = store._state.accounts
    accounts["bob"] = replace(accounts["bob"], balance=-1)
    commands = group(charges)
    with capture_logs() as lines:
        results = await submit(store, commands)
    for command, result in zip(commands, results, strict=True):
        if command.user_id == "bob":
            assert isinstance(result, CallError)
            assert result.reason == "INTERNAL"
        else:
            assert isinstance(result, Recorded | Replayed)
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["user_id"] == "bob"
    findings = [str(finding) async for finding in verify(store)]
    assert findings
    assert all("'bob'" in one for one in findings)


async def test_the_part_of_a_user_that_cannot_be_read_is_failed_by_the_store_itself(
    kind: Kind,
) -> None:
    """So that a group with a damaged record is not committed several times."""
    if not isinstance(kind, SqliteKind | RedisKind | PostgresqlKind):
        pytest.skip("Memory decodes nothing.")
    store = await kind.open()
    await fill(store)
    await store.close()
    if isinstance(kind, SqliteKind):
        sql(SQLITE["account that is no JSON"])(kind)
    elif isinstance(kind, PostgresqlKind):
        postgresql(POSTGRESQL["account that is no account"])(kind)
    else:
        redis_commands(*REDIS["account that is no account"])(kind)
    async with opened(kind) as store:
        with pytest.raises(CallError, match="bob"):
            await commit(store, top_up("bob", 1))
        with pytest.raises(CallError, match="bob"):
            await store.account("bob")
        page = await store.accounts("", 100)
        assert sorted(account.user_id for account in page.accounts) == ["ada", "cyd", "dan", "eve"]
        [error] = page.damaged
        assert "bob" in str(error)
