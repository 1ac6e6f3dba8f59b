"""How PostgreSQL executes the statements: by key, however small a table was when it planned."""

import re

import pytest

from entitlements_server.stores.postgresql import statements
from entitlements_server.stores.postgresql.store import PostgresqlStore
from support.ledger import commit, consume, top_up
from support.postgresql import PostgresqlServer

STATEMENTS = [
    *("COMMIT", "PREFETCH", "ACCOUNT", "TRANSACTION", "HISTORY", "ACCOUNTS", "DUE", "LOCK"),
    *("EARLY", "CHECK", "CHECK_BOUND", "CHECK_USERS"),
]


def planned(server: PostgresqlServer, text: str) -> str:
    """The generic plan of a statement."""
    count = max(int(number) for number in re.findall(r"\$(\d+)", re.sub(r"--.*", "", text)))
    plan = server.sql(
        "SET plan_cache_mode = force_generic_plan; SET search_path = pg_catalog;"
        f"PREPARE one AS {text};"
        f"EXPLAIN EXECUTE one ({', '.join(['NULL'] * count)})"
    )
    return "\n".join(plan)


def scanned(server: PostgresqlServer, text: str) -> list[str]:
    """The tables that the generic plan of a statement reads as a whole."""
    found = re.findall(r"Seq Scan on (\w+)", planned(server, text))
    return [name for name in found if name != "ledger"]  # it has one row


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_table_is_read_as_a_whole(
    server: PostgresqlServer, store: PostgresqlStore, name: str
) -> None:
    assert scanned(server, getattr(statements, name)) == []


@pytest.mark.parametrize("name", ["CHECK", "CHECK_USERS"])
async def test_a_page_of_a_check_ends_at_its_upper_bound(
    server: PostgresqlServer, store: PostgresqlStore, name: str
) -> None:
    """As a condition on the index: as a filter each page would read all of the rest."""
    bounds = "((user_id > $1) AND (user_id <= $2))"
    plan = planned(server, getattr(statements, name))
    assert f"Index Cond: {bounds}" in plan
    assert f"Filter: {bounds}" not in plan
    assert "Filter: (user_id" not in plan


async def test_a_plain_join_would_read_all_keys(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    broken = re.sub(
        r"LEFT JOIN LATERAL \(.*?\) AS bound ON true",
        "LEFT JOIN entitlements.keys AS bound"
        " ON bound.user_id = presumed.user_id AND bound.key = presumed.key",
        statements.COMMIT,
        flags=re.DOTALL,
    )
    assert "keys" in scanned(server, broken) or "bound" in scanned(server, broken)


async def test_accounts_are_updated_on_their_page(
    server: PostgresqlServer, store: PostgresqlStore
) -> None:
    """HOT: no second index, and room on each page. Else each charge would write the index again."""
    await commit(store, *(top_up(f"user-{number}", 100) for number in range(50)))
    for _ in range(10):
        await commit(store, *(consume(f"user-{number}") for number in range(50)))
    await store.close()
    updated, hot = map(
        int,
        server.sql(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'accounts'"
        )[0].split("|"),
    )
    assert updated == 500
    assert hot >= 0.9 * updated
