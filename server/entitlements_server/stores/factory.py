"""From a store's URL to the store."""

from entitlements_server.stores.interface import Store, StoreConfigurationError, SupportsBackup
from entitlements_server.stores.urls import KINDS, masked, scheme_of, sqlite_file


async def open_store(url: str) -> Store:
    """Open the store that a URL names.

    Raises:
        StoreConfigurationError: The URL names none, or the store cannot be used as it is; the
            message says what to do.
    """
    match scheme_of(url):
        case "memory":
            from entitlements_server.stores.memory import MemoryStore  # noqa: PLC0415  # only one

            return MemoryStore()
        case "sqlite":
            from entitlements_server.stores.sqlite import SqliteStore  # noqa: PLC0415  # is needed

            path = sqlite_file(url)
            assert path is not None
            return await SqliteStore.open(path)
        case "redis" | "rediss" | "redis+cluster" | "rediss+cluster":
            from entitlements_server.stores.redis import open_redis  # noqa: PLC0415

            return await open_redis(url)
        case _:
            raise StoreConfigurationError(
                f"The store '{masked(url)}' is of no kind that is known: write {KINDS}."
            )


def ledger_backup(url: str) -> SupportsBackup | None:
    """Return what makes backups of the ledger that a URL names, or None if its kind has none.

    The ledger is not opened: a server may have it.

    Raises:
        StoreConfigurationError: The URL is of a kind that has backups, and names no ledger.
    """
    path = sqlite_file(url)
    if path is None:
        return None
    from entitlements_server.stores.sqlite.backup import LedgerFile  # noqa: PLC0415  # is needed

    return LedgerFile(path)
