"""`postgresql://`: one ledger for any number of server processes.

Python decides; one SQL statement a group compares and writes. A user's part of a group is stored only
if the account is still the one it was decided on. Otherwise it is decided again.

| module | contents |
|---|---|
| `store.py` | the store's interface |
| `url.py` | the URL |
| `codec.py`, `sql/schema/` | how accounts and transactions are written; the tables |
| `statements.py`, `sql/` | the SQL, a statement a file |
| `connection.py`, `connections.py` | one connection; all of a store, connecting again after a loss |
| `durability.py`, `ledger_format.py` | what is checked before a ledger is used |
| `prefetch.py` | reads the read set of a group |
| `account_write.py`, `writer.py` | what a group writes for one user, and storing it by compare-and-set |
| `changes.py` | reads the change feed |
| `check.py` | compares what is stored beside the histories with them |
"""

from entitlements_server.stores.interface import Store, StoreConfigurationError


async def open_postgresql(url: str) -> Store:
    """Open the ledger in a PostgreSQL database, and create it if there is none.

    Raises:
        StoreConfigurationError: The URL is wrong, asyncpg is not installed, or the database cannot
            be reached or is not as durable as the URL requires; the message says what to do.
    """
    try:
        from entitlements_server.stores.postgresql.store import (  # noqa: PLC0415  # an extra
            PostgresqlStore,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "asyncpg":
            raise
        raise StoreConfigurationError(
            "A ledger on PostgreSQL needs the asyncpg package, which is not installed:"
            " pip install 'entitlements[server,postgresql]'."
        ) from error
    return await PostgresqlStore.open(url)
