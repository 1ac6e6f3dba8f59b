"""`redis://`, `rediss://`, `redis+cluster://`: one ledger for any number of server processes.

Python decides and a script compares and writes: a user's part of a group takes effect only if
the account is still the one that it was decided on, and is decided again if not.

`url.py` reads the URL, `schema.py` says what is stored under which key, `connection.py` talks to
one Redis server and `topology.py` to all of them, `durability.py` is what a server must promise.
`prefetch.py` reads what a decision needs, `account_write.py` is what a group writes for one user,
`writer.py` stores it by compare-and-set, `reader.py` batches reads, `store.py` is the interface.
"""

from entitlements_server.stores.interface import Store, StoreConfigurationError


async def open_redis(url: str) -> Store:
    """Open the ledger on a Redis server or Redis Cluster.

    Raises:
        StoreConfigurationError: The URL is wrong, redis-py is not installed, or the server is
            not reachable or promises less than the URL asks for; the message says what to do.
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
