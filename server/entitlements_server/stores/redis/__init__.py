"""`redis://`, `rediss://`, `redis+cluster://`: one ledger for any number of server processes.

Python decides; a Lua script compares and writes. A user's part of a group is stored only if the
account is still the one it was decided on. Otherwise it is decided again.

| module | contents |
|---|---|
| `store.py` | the store's interface |
| `url.py` | the URL |
| `schema.py`, `codec.py` | what is stored under which key, and how |
| `connection.py`, `topology.py` | one Redis server; all servers of a ledger |
| `durability.py`, `ledger_format.py` | what is checked before a ledger is used |
| `prefetch.py` | reads the read set of a decision |
| `account_write.py`, `writer.py`, `lua/` | what a group writes for one user, and storing it by compare-and-set |
| `reader.py` | batches reads |
| `check.py` | what `verify` checks besides the histories |
"""

from entitlements_server.stores.interface import Store, StoreConfigurationError


async def open_redis(url: str) -> Store:
    """Open the ledger on a Redis server or Redis Cluster.

    Raises:
        StoreConfigurationError: The URL is wrong, redis-py is not installed, or the server is
            not reachable or not as durable as the URL requires; the message says what to do.
    """
    try:
        from entitlements_server.stores.redis.store import RedisStore  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        raise StoreConfigurationError(
            "A ledger on Redis needs the redis package, which is not installed:"
            " pip install 'entitlements[server,redis]'."
        ) from error
    return await RedisStore.open(url)
