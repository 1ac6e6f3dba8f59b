"""The tables: made and upgraded by one server at a time, compared with the histories, read briefly."""

import asyncio

import asyncpg
import pytest

from entitlements_server.ledger.commands import Refund
from entitlements_server.maintenance.stats import stats
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import StoreConfigurationError, StoreUnavailableError
from entitlements_server.stores.postgresql import check
from entitlements_server.stores.postgresql.account_write import MAX_COMMANDS
from entitlements_server.stores.postgresql.changes import Place
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, commit_one, consume, record, recorded, top_up, top_ups
from support.postgresql import PostgresqlServer


async def test_servers_that_start_at_once_make_one_ledger(server: PostgresqlServer) -> None:
    stores = await asyncio.gather(*(PostgresqlStore.open(server.url) for _ in range(6)))
    await asyncio.gather(*(commit(store, top_up("ada", 1)) for store in stores))
    assert (await stores[0].account("ada")).balance == 6
    assert server.sql("SELECT count(*) FROM entitlements.ledger") == ["1"]
    for store in stores:
        await store.close()


async def test_a_running_server_does_not_write_over_what_it_cannot_read(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    """A newer server has upgraded the ledger; the older one remembers what was there before."""
    await commit(store, top_up("ada", 5), top_up("bob", 5))
    server.sql(
        "UPDATE entitlements.ledger SET major = 2, minor = 0;"
        "UPDATE entitlements.accounts SET base = write_id, write_id = 9, state = '2.0 {}'"
        " WHERE user_id = 'ada'"
    )
    before = server.sql("SELECT * FROM entitlements.accounts WHERE user_id = 'ada'")
    with pytest.raises(ForeignFormatError, match=r"format 2\.0"):
        await commit(store, top_up("ada", 1))
    with pytest.raises(StoreUnavailableError, match="Replace this server"):
        await store.account("ada")
    assert server.sql("SELECT * FROM entitlements.accounts WHERE user_id = 'ada'") == before
    with pytest.raises(StoreConfigurationError, match=r"has format 2\.0"):
        await PostgresqlStore.open(server.url)


async def test_a_ledger_that_was_dropped_is_not_begun_again_by_a_running_server(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    await commit(store, top_up("ada", 5))
    server.sql("DROP SCHEMA entitlements CASCADE")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await commit(store, top_up("ada", 1))
    assert server.sql("SELECT to_regnamespace('entitlements')") == [""]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("DELETE FROM entitlements.keys", "is not bound to its key"),
        ("UPDATE entitlements.keys SET sequence = 1", "bound to a key"),
        ("UPDATE entitlements.refunds SET refunded = 2", "refunds that do not add up"),
        ("DELETE FROM entitlements.refunds", "refunds that do not add up"),
        ("INSERT INTO entitlements.due VALUES ('ada', 7)", "due at another time"),
        ("DELETE FROM entitlements.accounts WHERE user_id = 'bob'", "no account"),
        (
            "UPDATE entitlements.transactions SET position = 1 WHERE sequence = 2",
            "before an earlier one in the change feed",
        ),
        (
            "INSERT INTO entitlements.transactions SELECT user_id, 9, position, write_id, body"  # noqa: ISC004  # one statement
            " FROM entitlements.transactions LIMIT 1",
            "beyond the account's transaction count",
        ),
    ],
)
async def test_what_contradicts_the_histories_is_found(
    server: PostgresqlServer,
    store: PostgresqlStore,
    damage: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "TRANSACTIONS", 2)
    await commit(store, *(top_up(user, 10) for user in ("ada", "bob", "eve", "zoe")))
    charge = recorded(await commit_one(store, consume("ada", "key")))
    await commit(store, Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    assert await store.self_check() == []
    server.sql(damage)
    assert any(what in str(finding) for finding in [one async for one in verify(store)])


async def test_a_group_beyond_the_size_of_a_statement_takes_several(
    store: PostgresqlStore,
) -> None:
    made = await record(store, *(top_up(f"user-{n}", 1) for n in range(MAX_COMMANDS + 60)))
    made += await record(store, *top_ups(MAX_COMMANDS + 60, "hot"))
    assert len({one.user_id for one in made}) == MAX_COMMANDS + 61
    positions = {one.place.position for one in await store.changes(Place(), 1000)}
    assert len(positions) == 3


def open_snapshots(server: PostgresqlServer) -> set[str]:
    """The transactions that keep old versions of rows alive."""
    return set(
        server.sql(
            "SELECT pid, xact_start FROM pg_stat_activity WHERE datname = 'ledger'"
            " AND pid <> pg_backend_pid() AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"
        )
    )


class Watcher:
    """Looks at the snapshots that are held whenever a page has been read."""

    def __init__(self, server: PostgresqlServer) -> None:
        self.server = server
        self.seen: list[set[str]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append(open_snapshots(self.server))

    @property
    def held(self) -> set[str]:
        """Those that were there while two pages were read: a page that is being read has one, too."""
        threes = zip(self.seen, self.seen[1:], self.seen[2:], strict=False)
        return set().union(*(set.intersection(*three) for three in threes))


async def test_nothing_reads_a_whole_ledger_on_one_snapshot(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    """No snapshot is held from page to page: a long one bloats accounts to ten times their size."""
    await commit(store, *(top_up(f"user-{number}", 1) for number in range(30)))
    watcher = Watcher(server)
    assert [finding async for finding in verify(store, watcher)] == []
    await stats(store, watcher)
    assert len(watcher.seen) >= 4
    assert watcher.held == set()
    # The control: what is watched for does show.
    holder = await asyncpg.connect(server.url)
    async with holder.transaction(isolation="repeatable_read"):
        await holder.fetch("SELECT FROM entitlements.accounts")
        await stats(store, watcher)
        await stats(store, watcher)
        assert len(watcher.held) == 1
    await holder.close()
