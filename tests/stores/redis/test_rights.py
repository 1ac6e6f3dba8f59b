"""A Redis user with the rights that docs/redis.md names, and no others."""

import asyncio
import re
from collections.abc import Iterator

import pytest
import redis

from entitlements_server.engine.engine import Engine
from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import Refund
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.terms import Choices
from entitlements_server.stores.factory import open_store
from support.ledger import commit, commit_one, consume, recorded, top_up, whole_history
from support.redis import RedisClusterServers, RedisServer
from support.repository import DOCS

GUIDE = DOCS / "redis.md"
RACES = 50


def nodes_of(servers: RedisServer | RedisClusterServers) -> list[RedisServer]:
    return servers.nodes if isinstance(servers, RedisClusterServers) else [servers]


@pytest.fixture
def url(servers: RedisServer | RedisClusterServers) -> Iterator[str]:
    """With the password of a user who has just those rights."""
    (line,) = re.findall(r"^    (ACL SETUSER .*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    for node in nodes_of(servers):
        with node.client() as client:
            client.execute_command(*line.split())
    yield servers.url.replace("//", "//entitlements:PASSWORD@")
    for node in nodes_of(servers):
        with node.client() as client:
            client.execute_command("ACL DELUSER", "entitlements")


def turns_ended(servers: RedisServer | RedisClusterServers) -> int:
    """How often a write had the turn: only the end of one deletes a key."""
    calls = 0
    for node in nodes_of(servers):
        with node.client() as client:
            statistics = client.info("commandstats")
            calls += statistics.get("cmdstat_del", {}).get("calls", 0)
    return calls


async def test_they_are_enough_to_write_read_race_and_take_turns(
    servers: RedisServer | RedisClusterServers, url: str
) -> None:
    stores = [await open_store(url) for _ in range(4)]
    first = stores[0]
    await commit(first, *(top_up(f"user-{n}", 10) for n in range(20)))
    charge = recorded(await commit_one(first, consume("user-0", "key")))
    back = Refund(user_id="user-0", transaction_id=charge.transaction_id)
    assert recorded(await commit_one(first, back)).balance_after == 10
    assert len(await whole_history(first, "user-0")) == 3
    assert len((await first.accounts("", 100)).accounts) == 20
    assert (await first.bound("user-0", ["key"]))["key"].refunded == 2
    await first.ping()
    assert await first.time_us()
    assert await first.newest_time_us()
    assert await first.due(2**50, 10) == []
    every = Choices(max_denials=1000)  # of them is recorded
    engines = [Engine(store, lambda: BUILT_IN, choices=every) for store in stores]
    before = turns_ended(servers)
    for number in range(RACES):
        results = await asyncio.gather(
            *(engines[n % 4].submit([consume("user-1", f"{number}-{n}")]) for n in range(200))
        )
        charged = sum(denial(recorded(one)) is None for (one,) in results)
        assert charged == (5 if number == 0 else 0)
        if turns_ended(servers) > before:
            break
    assert turns_ended(servers) > before
    for store in stores:
        await store.close()


@pytest.mark.parametrize("command", ["WAIT 1 100", "ASKING", "SELECT 1", "CLUSTER SLOTS"])
def test_they_hold_what_is_needed_now_and_then(
    servers: RedisServer | RedisClusterServers, url: str, command: str
) -> None:
    assert "PASSWORD" in url
    with nodes_of(servers)[0].client() as client:
        allowed = client.execute_command("ACL DRYRUN", "entitlements", *command.split())
    assert allowed in (b"OK", True)


def test_they_open_nothing_else(servers: RedisServer | RedisClusterServers, url: str) -> None:
    node = nodes_of(servers)[0]
    with redis.Redis(
        node.host, node.port, username="entitlements", password="PASSWORD", protocol=2
    ) as stranger:
        for command in (("FLUSHALL",), ("GET", "somebody's"), ("CONFIG", "SET", "save", "")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*command)
    assert url
