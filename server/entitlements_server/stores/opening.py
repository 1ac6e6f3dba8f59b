"""From a store's URL to the store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from entitlements_server.stores.port import Store, StoreConfigurationError

KINDS = "memory://, sqlite:///absolute/path, redis://host or redis+cluster://host"
"""The URLs that there are, for messages."""


async def open_store(url: str) -> Store:
    """Open the store that a URL names.

    Raises:
        StoreConfigurationError: The URL names none, or the store cannot be used as it is; the
            message says what to do.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreConfigurationError(f"The store's URL is malformed: write {KINDS}.") from error
    match parts.scheme:
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


def sqlite_file(url: str) -> Path | None:
    """Return the file that a store's URL names, or None if it is a store of another kind.

    Raises:
        StoreConfigurationError: It is of the kind and names no file.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return None
    path = Path(unquote(parts.path))
    if parts.netloc or not path.is_absolute() or path.name == "" or parts.query:
        raise StoreConfigurationError(
            f"The store '{masked(url)}' names no file: write sqlite:// and the absolute path of the"
            " ledger file, for example sqlite:///var/lib/entitlements/ledger.sqlite."
        )
    return path


def secrets_of(url: str) -> list[str]:
    """Return what nobody may see of a store's URL: the password as written, and as meant."""
    password = urlsplit(url).password
    return [password, unquote(password)] if password else []


def masked(url: str) -> str:
    """Return a store's URL without the password in it."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()
