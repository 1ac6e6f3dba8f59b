"""What is stored for a user is stored whole or not at all, whatever the script meets."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.stores.redis import topology
from entitlements_server.stores.redis.connection import _SCRIPT
from entitlements_server.stores.redis.writer import unavailable
from support.ledger import commit, commit_one, consume, record, recorded, top_up
from support.redis import RedisServer, wait_until

COMMANDS = ("get", "hget", "hmget", "zscore", "zadd", "llen", "rpush", "hlen", "hset", "evalsha")
"""Every command that a write executes without a lease and without a due time."""


@pytest.fixture
def url(server: RedisServer) -> Iterator[str]:
    """As a user whose rights the test takes away."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "ledger", "on", ">secret", "~*", "+@all")
    yield server.url.replace("//", "//ledger:secret@")
    with server.client() as client:
        client.execute_command("ACL", "DELUSER", "ledger")


def contents(client: "redis.Redis") -> dict[bytes, bytes]:
    keys: list[bytes] = client.keys("*")  # type: ignore[assignment]
    return {key: client.dump(key) for key in keys}  # type: ignore[misc]


def test_the_commands_of_the_script_are_those_that_are_made_to_fail() -> None:
    words = {word.strip("'(),").lower() for word in _SCRIPT.replace("(", " ( ").split()}
    known = {
        "get",
        "hget",
        "hmget",
        "zscore",
        "zadd",
        "zrem",
        "llen",
        "rpush",
        "hlen",
        "hset",
        "del",
    }
    assert known <= words
    assert not {"sadd", "set_", "incr", "hdel", "lpush", "lset", "ltrim", "hincrby"} & words


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_of_the_script_that_fails_leaves_nothing_of_any_user(
    server: RedisServer, url: str, command: str
) -> None:
    store = await open_store(url)
    await record(store, top_up("ada", 10), top_up("bob", 10))
    charge = recorded(await commit_one(store, consume("ada", "k-1")))
    refund = Refund(
        user_id="ada", transaction_id=charge.transaction_id, amount=1, idempotency_key="k-3"
    )
    group: list[Command] = [
        consume("ada", "k-2"),
        refund,
        consume("bob", "k-1"),
        top_up("new", 1, "k-1"),
    ]
    with server.client() as client:
        before = contents(client)
        client.execute_command("ACL", "SETUSER", "ledger", f"-{command}")
        with pytest.raises(StoreUnavailableError):
            await commit(store, *group)
        after = contents(client)
        # A part that does not need the command is stored: whole.
        untouched = [one for one in ("ada", "bob", "new") if not _changed(before, after, one)]
        client.execute_command("ACL", "SETUSER", "ledger", f"+{command}")
    assert [finding async for finding in verify(store)] == []
    for user in untouched:
        history = await store.history(user, 100, 100)
        assert len(history) == {"ada": 2, "bob": 1, "new": 0}[user]
    await commit(store, *group)
    assert (await store.account("ada")).balance == 7
    assert (await store.account("bob")).balance == 8
    assert [finding async for finding in verify(store)] == []
    await store.close()


def _changed(before: dict[bytes, bytes], after: dict[bytes, bytes], user: str) -> bool:
    return any(
        before.get(key) != after.get(key)
        for key in before.keys() | after.keys()
        if key.endswith(f":{user}".encode())
    )


async def test_a_script_that_redis_has_forgotten_is_sent_again_with_the_wait_for_replicas(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "_REPLICA_WAIT_MS", 500)
    with RedisServer(replicaof=f"127.0.0.1 {own_server.port}") as replica:
        own_server.wait_for_replica()
        store = await open_store(f"{own_server.url}?replicas=1")
        await commit(store, top_up("ada", 10))
        with own_server.client() as client:
            # Then a WAIT without a write returns at once, as long as the replica stays connected.
            wait_until(lambda: _is_in_step(client.info("replication")))
            replica.pause()
            client.script_flush()
            with pytest.raises(StoreUnavailableError):
                await commit(store, top_up("ada", 10, "k-1"))
            monkeypatch.setattr(topology, "_REPLICA_WAIT_MS", 10_000)
            replica.resume()
            own_server.wait_for_replica()
            client.script_flush()
        await commit(store, top_up("ada", 10, "k-1"))
        assert (await store.account("ada")).balance == 20
        await store.close()


def _is_in_step(replication: dict[str, Any]) -> bool:
    return bool(replication["slave0"]["offset"] >= replication["master_repl_offset"])


def test_the_log_has_the_name_of_an_error_that_redis_py_cuts_off() -> None:
    with capture_logs() as lines:
        error = unavailable(redis.exceptions.MovedError("866 127.0.0.1:7001"))
    [line] = lines
    assert line["problem"] == "MovedError: 866 127.0.0.1:7001"
    assert "MovedError: 866 127.0.0.1:7001" in str(error)
