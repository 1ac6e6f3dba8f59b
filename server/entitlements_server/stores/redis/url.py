"""Redis URLs."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from entitlements_server.stores.interface import StoreConfigurationError

DURABILITIES = ("always", "everysec", "unknown", "none")
"""The durabilities that a URL can require, strongest first."""

_TLS_OPTIONS = {
    "ca_file": "ssl_ca_certs",
    "cert_file": "ssl_certfile",
    "key_file": "ssl_keyfile",
}
_OPTIONS = ("durability", "replicas", *_TLS_OPTIONS)
_DEFAULT_PORT = 6379
_MAX_REPLICAS = 10
_MAX_DATABASES = 1 << 16
_EXAMPLE = "redis://host:6379/0 or redis+cluster://host:6379,host:6380"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where the ledger is, and how durable its servers must be.

    Attributes:
        cluster: Whether it is a Redis Cluster.
        addresses: Host and port; for a cluster, of some of its nodes.
        tls: Whether connections are encrypted.
        durability: One of DURABILITIES.
        replicas: Replicas that must confirm a write before it is acknowledged, 0 to 10.
        connection: Further arguments for redis-py's connections. They include the password.
    """

    cluster: bool
    addresses: tuple[tuple[str, int], ...]
    tls: bool
    durability: str
    replicas: int
    connection: dict[str, Any] = field(repr=False)


def parse(url: str) -> RedisUrl:
    """Parse a URL: redis[s]://[user[:password]@]host[:port][/database][?option=value&...].

    A cluster is written redis[s]+cluster:// and names one or more nodes, separated by commas.

    Raises:
        StoreConfigurationError: The URL is wrong. The message never contains the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreConfigurationError(f"The store's URL is malformed: write {_EXAMPLE}.") from error
    scheme, _, kind = parts.scheme.partition("+")
    credentials, _, hosts = parts.netloc.rpartition("@")
    options = _options(parts.query)
    tls = scheme == "rediss"
    connection: dict[str, Any] = {}
    if credentials:
        user, _, password = credentials.partition(":")
        connection["username"] = unquote(user) or None
        connection["password"] = unquote(password) or None
    if kind:
        if parts.path not in ("", "/"):
            raise StoreConfigurationError(
                "A Redis Cluster has only one database: remove what follows the last host in the"
                " store's URL."
            )
    else:
        connection["db"] = _number("database", parts.path.strip("/") or "0", _MAX_DATABASES)
    for option, name in _TLS_OPTIONS.items():
        if option in options:
            if not tls:
                raise StoreConfigurationError(
                    f"The option {option} requires TLS: write rediss:// instead of redis:// in the"
                    " store's URL."
                )
            connection[name] = options[option]
    addresses = tuple(_address(host) for host in hosts.split(","))
    if len(addresses) > 1 and not kind:
        raise StoreConfigurationError(
            "The store's URL has several hosts, which only a cluster can have: write"
            " redis+cluster://."
        )
    durability = options.get("durability", "always")
    if durability not in DURABILITIES:
        raise StoreConfigurationError(
            f"The option durability must be one of {', '.join(DURABILITIES)}, not '{durability}'."
        )
    return RedisUrl(
        cluster=bool(kind),
        addresses=addresses,
        tls=tls,
        durability=durability,
        replicas=_number("replicas", options.get("replicas", "0"), _MAX_REPLICAS),
        connection=connection,
    )


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise StoreConfigurationError(
                f"A Redis URL has no option '{name}': the options are {', '.join(_OPTIONS)}."
            )
        if name in options:
            raise StoreConfigurationError(f"The option {name} is in the store's URL twice.")
        options[name] = value
    return options


def _address(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(_DEFAULT_PORT)
    name = name.removeprefix("[").removesuffix("]")
    if not name:
        raise StoreConfigurationError(f"The store's URL has no host: write {_EXAMPLE}.")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:  # noqa: PLR2004  # ports
        raise StoreConfigurationError(
            f"The port of host {name} in the store's URL is wrong: write {_EXAMPLE}."
        )
    return name, int(port)


def _number(name: str, value: str, maximum: int) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > maximum:
        raise StoreConfigurationError(
            f"The {name} in the store's URL must be a number from 0 to {maximum}."
        )
    return int(value)
