"""The servers of a ledger. Each command goes to the server with its bucket."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from entitlements_server.stores.redis.connection import (
    BAD_CREDENTIALS,
    Command,
    DownError,
    LostError,
    RedisConnection,
    UnfitError,
)
from entitlements_server.stores.redis.schema import TAGS
from entitlements_server.stores.redis.url import RedisUrl

_REPLICA_WAIT_MS = 2000
_LEARN_S = 2.0
_SLOTS = tuple(key_slot(tag.encode()) for tag in TAGS)


class MisplacedError(Exception):
    """Nothing was executed: the bucket has moved to another server, or is moving."""


class UnreplicatedError(Exception):
    """It was executed, but too few replicas confirmed it in time."""


@dataclass(frozen=True, slots=True)
class Request:
    """A Redis command about one bucket."""

    bucket: int
    command: Command


class Topology(Protocol):
    """The servers of a ledger."""

    async def run(self, requests: Sequence[Request], *, confirm: bool = False) -> list[Any]:
        """Execute requests: those of one bucket in order, on one connection.

        Args:
            requests: For any buckets.
            confirm: Whether to wait for replicas, as the URL requires.

        Returns:
            The replies in order. A failure is returned in place of a reply: one of
            ResponseError, DownError, LostError, UnfitError, MisplacedError, UnreplicatedError.
        """

    async def ping(self) -> None:
        """Reach every server.

        Raises:
            DownError, LostError, UnfitError, ResponseError: A server cannot be reached or does
                not accept writes.
        """

    async def close(self) -> None:
        """Close all connections."""


class SingleServer:
    """One server has every bucket."""

    def __init__(self, url: RedisUrl) -> None:
        self._connection = RedisConnection(url, *url.addresses[0])
        self._replicas = url.replicas

    async def run(self, requests: Sequence[Request], *, confirm: bool = False) -> list[Any]:
        """See Topology."""
        return await _run(self._connection, requests, self._replicas if confirm else 0)

    async def ping(self) -> None:
        """See Topology."""
        await _ping(self._connection)

    async def close(self) -> None:
        """See Topology."""
        await self._connection.close()


class Cluster:
    """Each master of a cluster has some of the buckets. redis-py knows which."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._replicas = url.replicas
        self._connections: dict[str, RedisConnection] = {}
        self._cluster = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in url.addresses],
            protocol=2,
            ssl=url.tls,
            socket_timeout=_LEARN_S,
            socket_connect_timeout=_LEARN_S,
            retry=Retry(NoBackoff(), 0),
            **url.connection,
        )
        self._refreshing: asyncio.Task[None] | None = None
        self._stale = True

    async def run(self, requests: Sequence[Request], *, confirm: bool = False) -> list[Any]:
        """See Topology."""
        try:
            await self._refresh()
            indexes: dict[RedisConnection, list[int]] = {}
            for index, request in enumerate(requests):
                indexes.setdefault(self._connection_of(request.bucket), []).append(index)
        except (DownError, UnfitError) as error:
            return [error] * len(requests)
        replicas = self._replicas if confirm else 0
        groups = await asyncio.gather(
            *(
                _run(server, [requests[at] for at in ats], replicas)
                for server, ats in indexes.items()
            )
        )
        replies: list[Any] = [None] * len(requests)
        for ats, group in zip(indexes.values(), groups, strict=True):
            for at, reply in zip(ats, group, strict=True):
                replies[at] = await self._redirected(requests[at], reply, replicas)
        return replies

    async def ping(self) -> None:
        """See Topology."""
        self._stale = self._stale or not self._connections
        await self._refresh()
        await asyncio.gather(*(_ping(server) for server in self._masters()))

    async def close(self) -> None:
        """See Topology."""
        if self._refreshing is not None:
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._connections.values()))
        await self._cluster.aclose()

    def _masters(self) -> list[RedisConnection]:
        return [
            self._connection(found.host, int(found.port)) for found in self._cluster.get_primaries()
        ]

    def _connection_of(self, bucket: int) -> RedisConnection:
        try:
            found = self._cluster.nodes_manager.get_node_from_slot(_SLOTS[bucket])
        except RedisClusterException as error:
            self._stale = True
            raise DownError("the cluster") from error
        return self._connection(found.host, int(found.port))

    def _connection(self, host: str, port: int) -> RedisConnection:
        name = f"{host}:{port}"
        if name not in self._connections:
            self._connections[name] = RedisConnection(self._url, host, port)
        return self._connections[name]

    async def _redirected(self, request: Request, reply: Any, replicas: int) -> Any:
        """Follow a bucket that is moving; mark the slots as outdated if it has moved."""
        if isinstance(reply, MovedError):
            self._stale = True
            return MisplacedError()
        if isinstance(reply, AskError):
            server = self._connection(reply.host, reply.port)
            asking = Request(request.bucket, ("ASKING",))
            return (await _run(server, [asking, request], replicas))[1]
        if isinstance(reply, (TryAgainError, ClusterDownError)):
            self._stale = True
            return MisplacedError()
        if isinstance(reply, (DownError, LostError)):
            # A replica may be taking over.
            self._stale = True
        return reply

    async def _refresh(self) -> None:
        """Find out again which server has which slots, if that may be outdated."""
        if not self._stale:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._learn())
        await asyncio.shield(self._refreshing)

    async def _learn(self) -> None:
        try:
            if self._connections:
                await self._cluster.nodes_manager.initialize()
            else:
                await self._cluster.initialize()
            masters = {found.name for found in self._cluster.get_primaries()}
            for name in self._connections.keys() - masters:
                await self._connections.pop(name).close()
            self._stale = False
        except (RedisError, RedisClusterException, OSError) as error:
            if isinstance(error.__cause__, AuthenticationError):
                raise UnfitError(BAD_CREDENTIALS.format(name="cluster")) from error
            raise DownError("the cluster") from error


async def _run(server: RedisConnection, requests: Sequence[Request], replicas: int) -> list[Any]:
    """Execute requests at one server. Returns failures in place of replies."""
    commands: list[Command] = [request.command for request in requests]
    if replicas:
        commands.append(("WAIT", replicas, _REPLICA_WAIT_MS))
    try:
        replies = await server.run(commands)
    except (DownError, LostError, UnfitError) as error:
        return [error] * len(requests)
    if replicas and not (isinstance(replies[-1], int) and replies[-1] >= replicas):
        return [
            reply if isinstance(reply, ResponseError) else UnreplicatedError(server.name)
            for reply in replies[:-1]
        ]
    return replies[: len(requests)]


async def _ping(server: RedisConnection) -> None:
    await server.check()
    pong, role = await server.run([("PING",), ("ROLE",)])
    if isinstance(pong, ResponseError):
        raise pong
    if isinstance(role, list) and role[0] != b"master":
        await server.forget()
        raise DownError(server.name)
