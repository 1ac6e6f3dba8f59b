"""Opens the store that a URL names."""

from entitlements_server.stores.interface import Store, StoreConfigurationError, SupportsBackup
from entitlements_server.stores.urls import KINDS, masked, scheme_of, sqlite_file


async def open_store(url: str) -> Store:
    """Open the store that a URL names.

    Raises:
        StoreConfigurationError: The URL names no store, or the store cannot be used; the message
            says what to do.
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
        case "postgresql" | "postgres":
            from entitlements_server.stores.postgresql import open_postgresql  # noqa: PLC0415

            return await open_postgresql(url)
        case _:
            raise StoreConfigurationError(
                f"The kind of the store '{masked(url)}' is unknown: write {KINDS}."
            )


def ledger_backup(url: str) -> SupportsBackup | None:
    """Return what makes backups of the ledger at a URL, or None if that kind has no backups.

    The ledger is not opened, as a server may be using it.

    Raises:
        StoreConfigurationError: The kind has backups, but the URL names no ledger.
    """
    path = sqlite_file(url)
    if path is None:
        return None
    from entitlements_server.stores.sqlite.backup import LedgerFile  # noqa: PLC0415  # is needed

    return LedgerFile(path)
