"""One Redis server: pipelines, reconnecting with backoff, and the durability check."""

import asyncio
import random
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from entitlements_server.stores.redis.durability import QUESTIONS, objection
from entitlements_server.stores.redis.url import RedisUrl

log = structlog.get_logger()

Command = Sequence[str | int | bytes]
"""A Redis command and its arguments."""

COMMIT = "commit"
"""Stands for `EVALSHA <digest of lua/commit.lua>` at the start of a command."""

BAD_CREDENTIALS = "The Redis {name} rejects the user or password in the store's URL."
"""The message about wrong credentials."""

_SCRIPT = (resources.files(__package__) / "lua" / "commit.lua").read_text("utf-8")
_CONNECT_S = 2.0
_REPLY_S = 5.0
_CONNECTIONS = 16
CHECK_S = 15.0
"""Seconds after which the settings of a server are checked again."""

_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 1.0


class DownError(Exception):
    """The server cannot be reached. Nothing was sent."""


class LostError(Exception):
    """The connection was lost. It is unknown which commands were executed."""


class UnfitError(Exception):
    """The server cannot be used for the ledger; the message says what to change."""


class RedisConnection:
    """A Redis server. Connects on first use and again after every loss.

    After every loss the durability of the server is checked again: it may be another server by now.

    Args:
        url: The store's URL.
        host: The server's host.
        port: The server's port.
    """

    def __init__(self, url: RedisUrl, host: str, port: int) -> None:
        self.name = f"{host}:{port}"
        self._url = url
        pool = BlockingConnectionPool(
            max_connections=_CONNECTIONS,
            timeout=_REPLY_S,
            connection_class=SSLConnection if url.tls else Connection,
            host=host,
            port=port,
            protocol=2,
            socket_timeout=_REPLY_S,
            socket_connect_timeout=_CONNECT_S,
            # Never send anything twice: the store decides what to do about a lost reply.
            retry=Retry(NoBackoff(), 0),
            **url.connection,
        )
        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._digest = ""
        self._failures = 0
        self._checked_at = 0.0
        self._closed_until = 0.0
        self._greeting = asyncio.Lock()

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Execute commands in order, in one pipeline on one connection.

        Returns:
            The replies in order. An error reply is a ResponseError among them.

        Raises:
            DownError: Nothing was sent.
            LostError: It is unknown what was executed.
            UnfitError: Nothing was sent.
        """
        if not self._digest:
            await self._greet()
        replies = await self._pipeline(self._expand(commands))
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # An unknown script did nothing, so it may be sent again. Whatever is no script was meant for
            # one, as ASKING before it and WAIT after it: without them the reply would mean less.
            await self._pipeline([("SCRIPT LOAD", _SCRIPT)])
            again = [
                index
                for index, reply in enumerate(replies)
                if isinstance(reply, NoScriptError) or commands[index][0] != COMMIT
            ]
            replies_again = await self._pipeline(self._expand([commands[at] for at in again]))
            for index, reply in zip(again, replies_again, strict=True):
                replies[index] = reply
        if any(isinstance(reply, ReadOnlyError) for reply in replies):
            # It was demoted: another server may have this address at the next connection.
            await self.forget()
        return replies

    async def check(self) -> None:
        """Check the settings of the server again, if that was some seconds ago.

        They can be changed while it runs. If they do not suffice any more, nothing is written until they
        do.

        Raises:
            DownError: The server cannot be reached.
            LostError: The connection was lost.
            UnfitError: It is less durable than the URL requires, or no master.
        """
        if self._digest and time.monotonic() >= self._checked_at + CHECK_S:
            self._require(await self._pipeline(QUESTIONS))
        elif not self._digest:
            await self._greet()

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()
        await self._pool.aclose()

    def _expand(self, commands: Sequence[Command]) -> list[Command]:
        return [
            ("EVALSHA", self._digest, *command[1:]) if command[0] == COMMIT else command
            for command in commands
        ]

    async def _greet(self) -> None:
        """Connect, check the durability, and load the script."""
        async with self._greeting:
            if self._digest:
                return
            if time.monotonic() < self._closed_until:
                raise DownError(self.name)
            try:
                *answers, digest = await self._pipeline([*QUESTIONS, ("SCRIPT LOAD", _SCRIPT)])
            except LostError as error:
                self._back_off()
                raise DownError(self.name) from error
            scripts = ""
            if isinstance(digest, ResponseError):
                scripts = "It does not accept scripts: allow this user SCRIPT LOAD and EVALSHA."
            self._require(answers, scripts)
            if self._failures:
                log.info("Redis can be used again.", server=self.name)
            self._failures = 0
            self._digest = str(digest)

    def _require(self, answers: Sequence[Any], problem: str = "") -> None:
        """Require that the server can be used for the ledger.

        Args:
            answers: Its replies to QUESTIONS.
            problem: Another reason against it.
        """
        self._checked_at = time.monotonic()
        objected = objection(self._url.durability, answers, cluster=self._url.cluster) or problem
        if objected:
            self._digest = ""
            self._back_off(objected)
            raise UnfitError(
                f"The Redis server {self.name} cannot be used for the ledger. {objected}"
            )

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except (AuthenticationError, AuthorizationError) as error:
            await self.forget()
            raise UnfitError(BAD_CREDENTIALS.format(name=f"server {self.name}")) from error
        except (RedisError, OSError, TimeoutError) as error:
            await self.forget()
            raise LostError(self.name) from error
        return replies

    async def forget(self) -> None:
        """Drop idle connections, and check the server again before it is used again."""
        self._digest = ""
        await self._pool.disconnect(inuse_connections=False)

    def _back_off(self, problem: str = "It cannot be reached.") -> None:
        if not self._failures:
            log.warning("Redis cannot be used.", server=self.name, problem=problem)
        self._failures += 1
        longest = _MIN_BACKOFF_S * 2 ** min(self._failures, 10)
        seconds = min(longest, _MAX_BACKOFF_S) * random.uniform(0.5, 1)  # noqa: S311  # jitter
        self._closed_until = time.monotonic() + seconds
