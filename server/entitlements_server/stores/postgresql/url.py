"""PostgreSQL URLs."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from entitlements_server.stores.interface import StoreConfigurationError

DURABILITIES = ("always", "none")
"""The durabilities that a URL can require, strongest first."""

_OPTIONS = ("durability",)
_OPTIONS_OF_LIBPQ = (
    "host",
    "port",
    "passfile",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
)
_EXAMPLE = "postgresql://user@host:5432/database"


@dataclass(frozen=True, slots=True)
class PostgresqlUrl:
    """Where the ledger is, and how durable its server must be.

    Attributes:
        durability: One of DURABILITIES.
        dsn: The URL for the driver. It may include a password.
    """

    durability: str
    dsn: str = field(repr=False)


def parse(url: str) -> PostgresqlUrl:
    """Parse a URL: postgresql://[user[:password]@]host[:port]/database[?option=value&...].

    Options that libpq has for encryption and credentials are passed on.

    Raises:
        StoreConfigurationError: The URL is wrong. The message never contains the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreConfigurationError(f"The store's URL is malformed: write {_EXAMPLE}.") from error
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in (*_OPTIONS, *_OPTIONS_OF_LIBPQ):
            known = ", ".join((*_OPTIONS, *_OPTIONS_OF_LIBPQ))
            raise StoreConfigurationError(
                f"A PostgreSQL URL has no option '{name}': the options are {known}."
            )
        if name in options:
            raise StoreConfigurationError(f"The option {name} is in the store's URL twice.")
        options[name] = value
    durability = options.pop("durability", "always")
    if durability not in DURABILITIES:
        raise StoreConfigurationError(
            f"The option durability must be one of {', '.join(DURABILITIES)}, not '{durability}'."
        )
    if parts.path.strip("/") == "" and "service" not in options:
        raise StoreConfigurationError(f"The store's URL names no database: write {_EXAMPLE}.")
    query = f"?{urlencode(options)}" if options else ""
    return PostgresqlUrl(durability, f"{parts.scheme}://{parts.netloc}{parts.path}{query}")
