"""Two versions of the program on one ledger: the second is a process with made-up fields."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from entitlements_server.ledger.commands import TopUp
from entitlements_server.maintenance.copy import CopyError, copy
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.format import FORMAT, ForeignFormatError, Format, parse
from entitlements_server.stores.interface import (
    Store,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.redis.schema import TAGS
from support.ledger import record
from support.postgresql import PostgresqlServer, empty
from support.redis import RedisServer, flush

MINT = {"flavour": "mint", "nickname": "Ada ☕"}
PLAIN = {"flavour": "", "nickname": ""}


def newer(version: str, url: str, deed: str) -> dict[str, Any]:
    """What the other version says after it has opened the ledger, and maybe written to it."""
    script = Path(__file__).with_name("newer.py")
    path = os.pathsep.join(str(one) for one in sys.path if one)
    child = subprocess.run(
        [sys.executable, str(script), version, url, deed],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
        timeout=60,
    )
    assert child.stdout, child.stderr
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/ledger.sqlite"
    if request.param == "postgresql":
        postgresql: PostgresqlServer = request.getfixturevalue("one_postgresql")
        empty(postgresql)
        return postgresql.url
    server: RedisServer = request.getfixturevalue("one_server")
    flush(server)
    return server.url


async def on(url: str, work: Callable[[Store], Any]) -> Any:
    store = await open_store(url)
    try:
        return await work(store)
    finally:
        await store.close()


async def findings(store: Store) -> list[str]:
    return [str(finding) async for finding in verify(store)]


@pytest.mark.slow
async def test_what_a_newer_minor_version_added_survives_being_read_and_written_to_by_this_one(
    url: str,
) -> None:
    first = newer("1.1", url, "write")
    assert (first["balance"], first["tier"], first["findings"]) == (10, "Ada ☕", [])

    async def write(store: Store) -> None:
        [old] = await store.history_after("ada", 0, 10)
        assert (old.caller, old.amount) == ("newer", 10)
        assert (await store.account("ada")).head.hex() == first["head"]
        await record(store, TopUp(user_id="ada", amount=1))
        await record(store, TopUp(user_id="bob", amount=1))
        assert await findings(store) == []

    await on(url, write)
    between = newer("1.1", url, "read")
    assert (between["balance"], between["tier"], between["findings"]) == (11, "Ada ☕", [])
    second = newer("1.1", url, "write")
    assert (second["balance"], second["tier"], second["findings"]) == (21, "Ada ☕", [])
    assert second["made"] == [MINT, PLAIN, MINT]
    assert await on(url, findings) == []
    third = newer("1.1", url, "read")
    assert third == second


@pytest.mark.slow
async def test_what_a_killed_newer_version_has_not_flushed_is_left_to_it(tmp_path: Path) -> None:
    """It alone knows what its own fields do to an account."""
    path = tmp_path / "ledger.sqlite"
    assert newer("1.1", f"sqlite://{path}", "die") == {"balance": 10}
    with pytest.raises(StoreConfigurationError, match="Start the newer version once and stop it"):
        await open_store(f"sqlite://{path}")
    again = newer("1.1", f"sqlite://{path}", "read")
    assert (again["balance"], again["tier"], again["findings"]) == (10, "Ada ☕", [])
    assert await on(f"sqlite://{path}", findings) == []


@pytest.mark.slow
async def test_this_version_does_not_copy_an_account_that_it_cannot_derive(url: str) -> None:
    newer("1.1", url, "write")
    target = MemoryStore()

    async def away(store: Store) -> None:
        with pytest.raises(CopyError, match="Copy with the newer version"):
            await copy(store, target, resume=False)

    await on(url, away)
    assert (await target.accounts("", 10)).accounts == []


@pytest.mark.slow
async def test_a_ledger_of_another_major_version_is_refused_with_a_sentence_and_left_alone(
    url: str,
) -> None:
    await on(url, lambda store: record(store, TopUp(user_id="ada", amount=5)))
    upgraded = newer("2.0", url, "write")
    assert (upgraded["balance"], upgraded["findings"]) == (15, [])
    with pytest.raises(StoreConfigurationError) as refused:
        await open_store(url)
    assert "has format 2.0 and this version reads formats 1.x" in str(refused.value)
    assert newer("2.0", url, "read") == upgraded


@pytest.mark.slow
async def test_a_server_that_runs_during_an_upgrade_does_not_write_over_what_it_cannot_read(
    one_server: RedisServer,
) -> None:
    flush(one_server)
    running = await open_store(one_server.url)
    await record(running, TopUp(user_id="ada", amount=5), TopUp(user_id="bob", amount=5))
    upgraded = newer("2.0", one_server.url, "write")
    with pytest.raises(ForeignFormatError, match=r"format 2\.0"):
        await record(running, TopUp(user_id="ada", amount=1))
    with pytest.raises(StoreUnavailableError, match="Replace this server"):
        await running.account("ada")
    [made] = await running.history_after("bob", 0, 1)
    with pytest.raises(StoreUnavailableError):
        await running.append([replace(made, user_id="ada", sequence=3, balance_after=20)])
    await running.close()
    assert newer("2.0", one_server.url, "read") == upgraded


async def test_a_file_that_a_server_has_open_is_not_upgraded_by_another(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    running = await open_store(url)
    await record(running, TopUp(user_id="ada", amount=5))
    assert "is in use by process" in newer("2.0", url, "write")["refused"]
    await record(running, TopUp(user_id="ada", amount=1))
    await running.close()
    assert (await on(url, lambda store: store.account("ada"))).balance == 6


async def test_a_ledger_on_redis_from_before_the_first_release_is_refused_with_a_sentence(
    one_server: RedisServer,
) -> None:
    flush(one_server)
    with one_server.client() as client:
        client.zadd(f"{TAGS[700]}:users", {"ada": 0})
        client.hset(f"{TAGS[700]}:accounts", "ada", "5 1 7 7 stamp")
    with pytest.raises(StoreConfigurationError, match="before the first release"):
        await open_store(one_server.url)
    with one_server.client() as client:
        assert sorted(client.keys()) == [
            f"{TAGS[700]}:accounts".encode(),
            f"{TAGS[700]}:users".encode(),
        ]


@pytest.mark.slow
async def test_an_older_server_does_not_lower_the_format_of_a_ledger(
    one_server: RedisServer,
) -> None:
    flush(one_server)
    newer("1.1", one_server.url, "write")
    await on(one_server.url, findings)
    with one_server.client() as client:
        assert client.get(f"{TAGS[0]}:format") == b"1.1"


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "x.1", "1.x", "-1.0", "²1.0", "1.0.0"])
def test_what_is_no_format_is_none(text: str) -> None:
    assert parse(text) is None
    assert parse(str(FORMAT)) == FORMAT
    assert parse("12.34") == Format(12, 34)
