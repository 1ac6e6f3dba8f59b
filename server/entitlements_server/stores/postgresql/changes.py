"""The change feed: every transaction of the ledger, in an order that only grows at its end."""

from dataclasses import dataclass

from entitlements_server.ledger.values import Transaction
from entitlements_server.stores.postgresql.codec import read_transaction
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.statements import CHANGES


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the change feed.

    Attributes:
        position: The epoch, above 48 bits of the transaction id in PostgreSQL; 0 is before all.
        user_id: The user.
        sequence: The sequence of the transaction in the history of its user.
    """

    position: int = 0
    user_id: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the change feed."""

    place: Place
    transaction: Transaction


async def changes(connection: Connection, after: Place, limit: int) -> list[Change]:
    """Read the changes after a place, in order; those of one user in the order of their sequences.

    What is returned is final: nothing will ever appear before it. A transaction that writes to any
    database of the cluster holds back what was recorded after it began.
    """
    rows = await connection.fetch(CHANGES, after.position, after.user_id, after.sequence, limit)
    return [
        Change(
            Place(row["position"], row["user_id"], row["sequence"]),
            read_transaction(row["user_id"], row["sequence"], row["body"]),
        )
        for row in rows
    ]
