"""A server that may lose acknowledged writes is refused, at the start and whenever it is looked at."""

import asyncio

import asyncpg
import pytest

from entitlements_server.ledger.outcomes import Replayed
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import (
    Store,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.postgresql import writer
from entitlements_server.stores.postgresql.statements import COMMIT
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, commit_one, consume, top_up
from support.postgresql import DATABASE, Pgbouncer, PostgresqlServer


async def refusal(url: str) -> str:
    with pytest.raises(StoreConfigurationError) as refused:
        await open_store(url)
    return str(refused.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("synchronous_commit", "local"),
        ("synchronous_commit", "remote_write"),
    ],
)
async def test_a_server_that_may_lose_acknowledged_writes_is_refused(
    own_server: PostgresqlServer, setting: str, value: str
) -> None:
    """The message names the setting, and the weaker promise is accepted where it is named."""
    own_server.sql(f"ALTER SYSTEM SET {setting} = {value}")
    own_server.settings.pop(setting)
    own_server.restart()
    assert f"{setting} {value}" in await refusal(own_server.url)
    store = await open_store(f"{own_server.url}?durability=none")
    await commit(store, top_up("ada", 1))
    await store.close()


async def test_what_a_server_promises_is_asked_after_a_loss_and_by_each_ping(
    own_server: PostgresqlServer,
) -> None:
    """A reload can weaken it while it is running; a restart can while nobody looks."""
    store = await open_store(own_server.url)
    await commit(store, top_up("ada", 10))
    own_server.settings.pop("full_page_writes")
    own_server.restart()
    await back(store)
    own_server.sql("ALTER SYSTEM SET full_page_writes = off")
    own_server.sql("SELECT pg_reload_conf()")
    for _ in range(1000):
        try:
            await store.ping()
        except StoreUnavailableError as error:
            assert "full_page_writes off" in str(error.args)  # noqa: PT017  # others may come first
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError
    own_server.restart()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada"))
    await store.close()


async def back(store: Store) -> None:
    for _ in range(3000):
        try:
            await store.ping()
        except StoreUnavailableError:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError


async def test_a_standby_is_refused(own_server: PostgresqlServer) -> None:
    own_server.stop()
    (own_server.data / "standby.signal").touch()
    own_server.start()
    assert "name its primary" in await refusal(own_server.url)


async def test_what_is_no_utf8_is_refused(server: PostgresqlServer) -> None:
    server.sql("CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0")
    assert "encoding LATIN1" in await refusal(server.url_of("owner", "latin"))
    server.sql("DROP DATABASE latin WITH (FORCE)")


async def test_who_is_not_let_in_is_told_without_a_password(server: PostgresqlServer) -> None:
    for url in (server.url_of("nobody:wrong"), server.url_of("owner", "nowhere")):
        said = await refusal(url)
        assert "rejects the user, the password or the database" in said
        assert "wrong" not in said
    assert "cannot be used" in await refusal("postgresql://owner@127.0.0.1:1/ledger")


async def test_nothing_is_acknowledged_without_the_standby_that_was_asked_for(
    own_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write is, once the standby has it; and a replay of one waits just so."""
    monkeypatch.setattr("entitlements_server.stores.postgresql.connections.REPLY_S", 0.5)
    store = await PostgresqlStore.open(own_server.url)
    await commit(store, top_up("ada", 10), consume("ada", "first"))
    own_server.sql("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    own_server.sql("SELECT pg_reload_conf()")
    await store.close()
    store = await PostgresqlStore.open(own_server.url)
    for key in ("second", "first"):
        with pytest.raises(StoreUnavailableError):
            await commit(store, consume("ada", key))
    own_server.sql("ALTER SYSTEM RESET synchronous_standby_names")
    own_server.sql("SELECT pg_reload_conf()")
    await back(store)
    await commit(store, consume("ada", "second"))
    assert isinstance(await commit_one(store, consume("ada", "first")), Replayed)
    assert (await store.account("ada")).balance == 6
    await store.close()


async def weakened(server: PostgresqlServer) -> list[str]:
    """Somebody else weakens a pooler's connection. Returns how commits were made after that."""
    with Pgbouncer(server, size=1) as bouncer:
        store = await PostgresqlStore.open(bouncer.url)
        server.sql(
            "CREATE TABLE public.seen (setting text);"
            "CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO public.seen VALUES (current_setting('synchronous_commit'));"
            " RETURN NULL; END $$;"
            "CREATE TRIGGER look AFTER INSERT ON entitlements.transactions"
            " FOR EACH ROW EXECUTE FUNCTION public.look()"
        )
        other = await asyncpg.connect(
            f"postgresql://owner@127.0.0.1:{bouncer.port}/{DATABASE}", statement_cache_size=0
        )
        await other.execute("SET synchronous_commit = off")
        await other.close()
        await commit(store, top_up("ada", 1))
        await store.close()
    found = server.sql("SELECT setting FROM public.seen")
    server.sql("DROP TABLE public.seen; DROP FUNCTION public.look CASCADE")
    return found


async def test_nobody_else_on_a_pooler_can_weaken_a_commit(server: PostgresqlServer) -> None:
    assert await weakened(server) == ["on"]


async def test_a_commit_that_did_not_say_how_durable_it_is_could_be(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = COMMIT.replace("set_config('synchronous_commit', $1::text, true)", "$1::text")
    assert broken != COMMIT
    monkeypatch.setattr(writer, "COMMIT", broken)
    assert await weakened(server) == ["off"]
