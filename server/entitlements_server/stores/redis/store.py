"""The Redis store: the interface, on one server or a cluster."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

from redis.exceptions import ResponseError

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.state import (
    ReadSet,
)
from entitlements_server.ledger.values import Account, Charge, Transaction
from entitlements_server.stores import user_writes
from entitlements_server.stores.account_cache import AccountCache
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import (
    AccountPage,
    CommandResult,
    DamagedRecordError,
    Finding,
    LedgerIdentity,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.redis.account_write import AccountWrite
from entitlements_server.stores.redis.check import check
from entitlements_server.stores.redis.codec import (
    damaged_account,
    damaged_transaction,
    read_account,
    read_transaction,
    user_of_change,
)
from entitlements_server.stores.redis.connection import Command as RedisCommand
from entitlements_server.stores.redis.connection import DownError, LostError, UnfitError
from entitlements_server.stores.redis.ledger_format import (
    open_format,
    read_identity,
    write_identity,
)
from entitlements_server.stores.redis.prefetch import ContradictionError, Prefetch, at
from entitlements_server.stores.redis.reader import Reader
from entitlements_server.stores.redis.schema import BUCKETS, CHUNK, IDENTITY_KEY, TAGS, UserKeys
from entitlements_server.stores.redis.topology import Cluster, Request, SingleServer, Topology
from entitlements_server.stores.redis.url import RedisUrl, parse
from entitlements_server.stores.redis.writer import Writer, unavailable
from entitlements_server.stores.user_writes import Decide

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 50 MB. Decisions are made on them and then confirmed."""

_BUCKETS_AT_ONCE = 256
_TRIES = 5


class RedisStore:
    """A ledger on Redis. Create it with `open`.

    The cache has accounts as they were last seen. Another server may have written since, so it is only
    used as a guess for commits, which the script confirms. Reads go to Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self._topology: Topology = Cluster(url) if url.cluster else SingleServer(url)
        self._cache = AccountCache[tuple[Account, bytes]](CACHED_ACCOUNTS)
        self._writer = Writer(self._topology, self._remember, confirm=url.replicas > 0)
        self._reader = Reader(self._topology)
        self._writes: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the ledger that a URL names; see `url.parse` and docs/redis.md.

        Raises:
            StoreConfigurationError: The URL is wrong, or a server cannot be reached or is not
                durable enough; the message says what to do.
        """
        parsed = parse(url)
        store = cls(parsed)
        try:
            await store._topology.ping()
            await open_format(store._topology)
        except StoreConfigurationError:
            await store.close()
            raise
        except UnfitError as error:
            await store.close()
            raise StoreConfigurationError(str(error)) from error
        except (DownError, LostError, ResponseError) as error:
            await store.close()
            where = ", ".join(f"{host}:{port}" for host, port in parsed.addresses)
            cause = _root(error)
            raise StoreConfigurationError(
                f"Redis at {where} cannot be used ({cause}): check that it runs, that the address"
                " is right, whether it is a cluster, and whether it uses TLS."
            ) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        """See Store."""
        return await user_writes.commit(commands, rule, self._guessed, self._write)

    async def account(self, user_id: str) -> Account:
        """See Store."""
        keys = UserKeys(user_id)
        request = Request(keys.bucket, ("HGET", keys.accounts, user_id))
        (text,) = await self._reader.read([request], user_id)
        account = read_account(user_id, text)
        if text:
            self._remember(account, text)
        return account

    def known_account(self, user_id: str) -> Account | None:  # noqa: ARG002  # see below
        """See Store: another server may have written since."""
        return None

    async def bound(self, user_id: str, names: Collection[str]) -> Mapping[str, Charge]:
        """See Store."""
        keys = UserKeys(user_id)
        contradiction: ContradictionError | None = None
        for _ in range(_TRIES):
            prefetch = Prefetch(keys, list(names), (), ())
            first = [Request(keys.bucket, command) for command in prefetch.first()]
            prefetch.take_first(await self._reader.read(first, user_id))
            second = [Request(keys.bucket, command) for command in prefetch.second()]
            try:
                prefetch.take_second(await self._reader.read(second, user_id))
            except ContradictionError as error:
                # Another server has written between the two steps.
                contradiction = error
                continue
            return {
                name: prefetch.state.charges[user_id, one.sequence]
                for (_, name), one in prefetch.state.keys.items()
            }
        assert contradiction is not None
        raise contradiction.damage

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See Store."""
        if sequence < 1:
            return None
        keys = UserKeys(user_id)
        request = Request(keys.bucket, at(keys, sequence))
        (text,) = await self._reader.read([request], user_id)
        if not text:
            if sequence > (await self.account(user_id)).transaction_count:
                return None
            # It may have been recorded between the two reads.
            (text,) = await self._reader.read([request], user_id)
            if not text:
                raise damaged_transaction(user_id, sequence, "it is missing")
        return read_transaction(user_id, sequence, text)

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        newest = min(before - 1, (await self.account(user_id)).transaction_count)
        found = await self._range(user_id, max(newest - limit, 0) + 1, newest)
        found.reverse()
        return found

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        """See Store."""
        newest = (await self.account(user_id)).transaction_count
        return await self._range(user_id, after + 1, min(after + limit, newest))

    async def due(self, until_us: int, limit: int) -> Sequence[str]:
        """See Store. Asks every bucket."""
        replies = await self._reader.read(
            [
                Request(
                    bucket,
                    (
                        *("ZRANGEBYSCORE", f"{TAGS[bucket]}:due", "-inf", until_us),
                        *("WITHSCORES", "LIMIT", 0, limit),
                    ),
                )
                for bucket in range(BUCKETS)
            ]
        )
        found = [
            (int(due_us), user.decode())
            for users in replies
            for user, due_us in zip(users[::2], users[1::2], strict=True)
        ]
        return [user_id for _, user_id in sorted(found)[:limit]]

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See Store. The cursor is a bucket and the last user id read in it, if any."""
        number, _, after = cursor.partition(":")
        bucket = int(number or 0)
        found: list[Account] = []
        damaged: list[Exception] = []
        while bucket < BUCKETS:
            rest = limit - len(found) - len(damaged)
            some, bucket, after = await self._accounts(bucket, after, rest, damaged)
            found += some
            if len(found) + len(damaged) >= limit:
                break
        return AccountPage(found, f"{bucket}:{after}" if bucket < BUCKETS else "", tuple(damaged))

    async def self_check(self) -> Sequence[Finding]:
        """See SupportsSelfCheck."""
        return await check(self, self._reader)

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See Store."""
        await user_writes.append(transactions, _write_of, self._writer.prefetch, self._write)

    async def time_us(self) -> int | None:
        """See Store. In a cluster, that of the master of the first bucket."""
        ((seconds, microseconds),) = await self._reader.read([Request(0, ("TIME",))])
        return int(seconds) * 1_000_000 + int(microseconds)

    async def newest_time_us(self) -> int:
        """See Store. Asks every bucket for its newest change."""
        changes = await self._reader.read_each(
            [Request(bucket, ("LINDEX", f"{tag}:changes", -1)) for bucket, tag in enumerate(TAGS)]
        )
        users = [
            (bucket, user_of_change(one))
            for bucket, one in enumerate(changes)
            if isinstance(one, bytes)
        ]
        texts = await self._reader.read_each(
            [Request(bucket, ("HGET", f"{TAGS[bucket]}:accounts", user)) for bucket, user in users]
        )
        newest_us = 0
        for (_, user_id), text in zip(users, texts, strict=True):
            with suppress(DamagedRecordError, ForeignFormatError):
                if isinstance(text, bytes):
                    newest_us = max(newest_us, read_account(user_id, text).update_time_us)
        return newest_us

    async def identity(self) -> LedgerIdentity:
        """See Store."""
        (stored,) = await self._reader.read([Request(0, ("GET", IDENTITY_KEY))])
        if stored is None:
            raise StoreUnavailableError("The ledger has lost its identity: was Redis emptied?")
        return read_identity(stored)

    async def adopt(self, identity: LedgerIdentity) -> None:
        """See Store."""
        await self._reader.read([Request(0, write_identity(identity))])

    async def ping(self) -> None:
        """See Store. Every master of a cluster must answer."""
        try:
            await self._topology.ping()
        except (DownError, LostError, UnfitError, ResponseError) as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """See Store."""
        self._closed = True
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._reader.close()
        await self._topology.close()

    async def _range(self, user_id: str, oldest: int, newest: int) -> list[Transaction]:
        """Read the transactions between two sequences, oldest first."""
        keys = UserKeys(user_id)
        requests: list[Request] = []
        for chunk in range((oldest - 1) // CHUNK, (newest - 1) // CHUNK + 1):
            start = max(oldest, chunk * CHUNK + 1)
            end = min(newest, (chunk + 1) * CHUNK)
            first, last = (start - 1) % CHUNK, (end - 1) % CHUNK
            requests.append(Request(keys.bucket, ("LRANGE", keys.chunk(chunk), first, last)))
        replies = await self._reader.read(requests, user_id)
        texts = [text for chunk in replies for text in chunk]
        if len(texts) < newest - oldest + 1:
            raise damaged_transaction(
                user_id, oldest + len(texts), "it or one before it is missing"
            )
        return [
            read_transaction(user_id, sequence, text) for sequence, text in enumerate(texts, oldest)
        ]

    def _guessed(self, user_id: str, size: int, read_set: ReadSet, decide: Decide) -> AccountWrite:
        """Return the write of a user, with the account as it was when this server last saw it."""
        write = _write_of(user_id, size, read_set, decide)
        if cached := self._cache.get(user_id):
            write.guess(*cached)
        return write

    async def _write(self, writes: Sequence[AccountWrite]) -> None:
        """Store what a group writes. `close` waits for it."""
        if self._closed:
            raise StoreUnavailableError("The ledger is closed.")
        task = asyncio.ensure_future(self._writer.write(writes))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        await task

    async def _accounts(
        self, bucket: int, after: str, limit: int, damaged: list[Exception]
    ) -> tuple[list[Account], int, str]:
        """Read about `limit` accounts from a bucket on. Returns where to continue.

        Adds to `damaged` why accounts cannot be read.
        """
        last = min(bucket + _BUCKETS_AT_ONCE, BUCKETS)
        lows = dict.fromkeys(range(bucket, last), "-")
        if after:
            lows[bucket] = f"({after}"
        counts = await self._reader.read_each(
            [
                Request(one, ("ZLEXCOUNT", f"{TAGS[one]}:users", low, "+"))
                for one, low in lows.items()
            ]
        )
        # As many whole buckets as fit into the page, then part of one.
        chosen: dict[int, RedisCommand] = {}
        partial = False
        for one, count in zip(lows, counts, strict=True):
            if isinstance(count, DamagedRecordError):
                damaged.append(count)
                continue
            if count and limit <= 0:
                last = one
                break
            if count:
                partial = count > limit
                part = ("LIMIT", 0, limit) if partial else ()
                chosen[one] = ("ZRANGEBYLEX", f"{TAGS[one]}:users", lows[one], "+", *part)
                limit -= count
        members: list[list[bytes]] = await self._reader.read(
            [Request(one, command) for one, command in chosen.items()]
        )
        rows = await self._reader.read_each(
            [
                Request(one, ("HMGET", f"{TAGS[one]}:accounts", *users))
                for one, users in zip(chosen, members, strict=True)
            ]
        )
        accounts: list[Account] = []
        for users, texts in zip(members, rows, strict=True):
            accounts += _readable(users, texts, damaged)
        if partial:
            return accounts, list(chosen)[-1], members[-1][-1].decode()
        return accounts, last, ""

    def _remember(self, account: Account, text: bytes) -> None:
        self._cache.put(account.user_id, (account, text))


def _write_of(user_id: str, _: int, read_set: ReadSet, decide: Decide) -> AccountWrite:
    names = [name for _, name in read_set.keys]
    windows = [name for _, name in read_set.windows]
    return AccountWrite(
        UserKeys(user_id),
        names,
        windows,
        sorted(sequence for _, sequence in read_set.charges),
        decide,
    )


def _readable(users: Sequence[bytes], texts: Any, damaged: list[Exception]) -> Iterator[Account]:
    """Decode the accounts of a bucket; add to `damaged` why others cannot be read."""
    if isinstance(texts, DamagedRecordError):
        damaged.append(texts)
        return
    for user, text in zip(users, texts, strict=True):
        user_id = user.decode(errors="replace")
        try:
            if not text:
                raise damaged_account(user_id, "it is missing, and listed")
            yield read_account(user_id, text)
        except (DamagedRecordError, ForeignFormatError) as error:
            damaged.append(error)


def _root(error: BaseException) -> str:
    """Return the innermost cause of a failed connection. redis-py's texts contain no passwords."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
