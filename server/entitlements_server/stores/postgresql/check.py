"""Compares what is stored beside the histories with them: keys, refunds, due times, the change feed."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from entitlements_server.stores.interface import Finding
from entitlements_server.stores.postgresql.connections import Connections, RefusedError
from entitlements_server.stores.postgresql.statements import CHECK, CHECK_BOUND, CHECK_USERS

TRANSACTIONS = 20_000
"""Transactions that one statement looks at, and the rest of the last user's. A statement is a snapshot."""

_REPLY_S = 3600.0
"""How long a statement may take: the history of one user may have any length."""


async def check(connections: Connections) -> AsyncIterator[Finding]:
    """Check the whole ledger, some users at a time. Yields what is wrong."""
    after = ""
    while True:
        ((last,),) = await _fetch(connections, CHECK_BOUND, after, TRANSACTIONS)
        if last is None or last <= after:
            return
        for finding in await _between(connections, after, last):
            yield finding
        after = last


async def _between(connections: Connections, after: str, last: str) -> list[Finding]:
    """Check the users after one up to another."""
    try:
        rows = await _fetch(connections, CHECK, after, last)
    except RefusedError as error:
        if not error.is_about_rows:
            raise
        # One record that is no JSON spoils the statement: halve until its user stands alone.
        users = [row["user_id"] for row in await _fetch(connections, CHECK_USERS, after, last)]
        if len(users) <= 1:
            user_id = users[0] if users else last
            return [Finding(user_id, "", "has records that PostgreSQL cannot read as JSON")]
        middle = users[len(users) // 2 - 1]
        return [
            *await _between(connections, after, middle),
            *await _between(connections, middle, last),
        ]
    return [
        Finding(row["user_id"], str(row["sequence"]) if row["sequence"] else "", row["what"])
        for row in rows
    ]


async def _fetch(connections: Connections, statement: str, *arguments: Any) -> Sequence[Any]:
    return await connections.run(
        lambda connection: connection.fetch(statement, *arguments), _REPLY_S
    )
