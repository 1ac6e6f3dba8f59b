"""Store URLs: what they name, and hiding the passwords in them."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from entitlements_server.stores.interface import StoreConfigurationError

KINDS = (
    "memory://, sqlite:///absolute/path, postgresql://host/database, redis://host or"
    " redis+cluster://host"
)
"""The kinds of URL, for messages."""


def scheme_of(url: str) -> str:
    """Return the scheme of a store's URL.

    Raises:
        StoreConfigurationError: The URL is malformed.
    """
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise StoreConfigurationError(f"The store's URL is malformed: write {KINDS}.") from error


def sqlite_file(url: str) -> Path | None:
    """Return the file in a SQLite store's URL, or None for a store of another kind.

    Raises:
        StoreConfigurationError: It is a SQLite URL without a file.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return None
    path = Path(unquote(parts.path, errors="surrogateescape"))
    if parts.netloc or not path.is_absolute() or path.name == "" or parts.query:
        raise StoreConfigurationError(
            f"The store '{masked(url)}' names no file: write sqlite:// and the absolute path of the"
            " ledger file, for example sqlite:///var/lib/entitlements/ledger.sqlite."
        )
    return require_utf8(path)


def require_utf8(path: Path) -> Path:
    """Return a path if SQLite can open a file of that name.

    Raises:
        StoreConfigurationError: It is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise StoreConfigurationError(
            f"The name {os.fsencode(path)!r} is not UTF-8, and SQLite opens no other: rename the file"
            " or its folder."
        ) from error
    return path


def secrets_of(url: str) -> list[str]:
    """Return the secrets in a store's URL: the password, as written and unquoted."""
    password = urlsplit(url).password
    return [password, unquote(password)] if password else []


def masked(url: str) -> str:
    """Return a store's URL with the password hidden."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}").geturl()
