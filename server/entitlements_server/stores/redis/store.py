"""The Redis store: the port, on a link to one server or to a cluster."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

from redis.exceptions import ResponseError

from entitlements_server.ledger.commands import Command
from entitlements_server.ledger.decide import Outcome, Rule
from entitlements_server.ledger.state import (
    Needs,
    State,
    check_next,
    decide_group,
    recorded,
)
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.port import (
    AccountPage,
    StoreConfigurationError,
    StoreUnavailableError,
)
from entitlements_server.stores.redis.layout import (
    BUCKETS,
    PIECE,
    TAGS,
    UserKeys,
    read_account,
    read_transaction,
)
from entitlements_server.stores.redis.link import ClusterLink, Link, Request, SingleLink
from entitlements_server.stores.redis.loading import at
from entitlements_server.stores.redis.node import Command as RedisCommand
from entitlements_server.stores.redis.node import DownError, LostError, UnfitError
from entitlements_server.stores.redis.part import Decide, Part
from entitlements_server.stores.redis.reading import Reader
from entitlements_server.stores.redis.url import RedisUrl, parse
from entitlements_server.stores.redis.writing import Writer, unavailable

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 50 MB: what a decision is taken on before it is confirmed."""

_BUCKETS_AT_ONCE = 256


class RedisStore:
    """A ledger on Redis. Make one with `open`.

    The cache holds accounts as they were last seen. Another server may have written since, so it
    only ever serves as the guess of a commit, which the script confirms; reads go to Redis.
    """

    def __init__(self, url: RedisUrl) -> None:
        self._link: Link = ClusterLink(url) if url.cluster else SingleLink(url)
        self._cache: OrderedDict[str, tuple[Account, bytes]] = OrderedDict()
        self._writer = Writer(self._link, self._remember, confirm=url.replicas > 0)
        self._reader = Reader(self._link)
        self._writes: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the ledger that a URL names; see `url.parse` and docs/redis.md.

        Raises:
            StoreConfigurationError: The URL is wrong, or a server cannot be reached or promises
                less than is asked for; the message says what to do.
        """
        parsed = parse(url)
        store = cls(parsed)
        try:
            await store._link.ping()
        except UnfitError as error:
            await store.close()
            raise StoreConfigurationError(str(error)) from error
        except (DownError, LostError, ResponseError) as error:
            await store.close()
            where = ", ".join(f"{host}:{port}" for host, port in parsed.addresses)
            cause = _root(error)
            raise StoreConfigurationError(
                f"Redis at {where} cannot be used ({cause}): check that it runs, that the address"
                " is right, and whether it is a cluster and wants TLS or not."
            ) from error
        return store

    async def commit(self, commands: Sequence[Command], rule: Rule) -> list[Outcome]:
        """See the port."""
        places: dict[str, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(command.user_id, []).append(place)
        parts: list[Part] = []
        for user_id, mine in places.items():
            part = _part(user_id, [commands[place] for place in mine], rule)
            if cached := self._cache.get(user_id):
                part.guess(*cached)
            parts.append(part)
        await self._write(parts)
        outcomes: list[Any] = [None] * len(commands)
        for part, mine in zip(parts, places.values(), strict=True):
            assert part.done is not None
            for place, outcome in zip(mine, part.done.result, strict=True):
                outcomes[place] = outcome
        return outcomes

    async def account(self, user_id: str) -> Account:
        """See the port."""
        keys = UserKeys(user_id)
        request = Request(keys.bucket, ("HGET", keys.accounts, user_id))
        (text,) = await self._reader.read([request])
        account = read_account(user_id, text)
        if text:
            self._remember(account, text)
        return account

    def known_account(self, user_id: str) -> Account | None:  # noqa: ARG002  # see the port
        """See the port. Other servers may have written since this one has seen an account."""
        return None

    async def transaction(self, user_id: str, sequence: int) -> Transaction | None:
        """See the port."""
        if sequence < 1:
            return None
        keys = UserKeys(user_id)
        (text,) = await self._reader.read([Request(keys.bucket, at(keys, sequence))])
        return read_transaction(user_id, sequence, text) if text else None

    async def history(self, user_id: str, before: int, limit: int) -> Sequence[Transaction]:
        """See the port."""
        keys = UserKeys(user_id)
        newest = min(before - 1, (await self.account(user_id)).transaction_count)
        oldest = max(newest - limit, 0) + 1
        requests: list[Request] = []
        starts: list[int] = []
        for piece in range((oldest - 1) // PIECE, (newest - 1) // PIECE + 1):
            start = max(oldest, piece * PIECE + 1)
            end = min(newest, (piece + 1) * PIECE)
            first, last = (start - 1) % PIECE, (end - 1) % PIECE
            requests.append(Request(keys.bucket, ("LRANGE", keys.piece(piece), first, last)))
            starts.append(start)
        replies = await self._reader.read(requests)
        found = [
            read_transaction(user_id, sequence, text)
            for start, texts in zip(starts, replies, strict=True)
            for sequence, text in enumerate(texts, start)
        ]
        found.reverse()
        return found

    async def accounts(self, cursor: str, limit: int) -> AccountPage:
        """See the port. The cursor is a bucket, and the last user id read in it, if any."""
        number, _, behind = cursor.partition(":")
        bucket = int(number or 0)
        found: list[Account] = []
        while bucket < BUCKETS:
            some, bucket, behind = await self._accounts(bucket, behind, limit - len(found))
            found += some
            if len(found) >= limit:
                break
        return AccountPage(found, f"{bucket}:{behind}" if bucket < BUCKETS else "")

    async def append(self, transactions: Sequence[Transaction]) -> None:
        """See the port. None is stored unless another server writes for the same users."""
        by_user: dict[str, list[Transaction]] = {}
        for transaction in transactions:
            by_user.setdefault(transaction.user_id, []).append(transaction)
        parts = [_appending(user_id, mine) for user_id, mine in by_user.items()]
        while any(part.state is None for part in parts):
            await self._writer.load(parts)
        for part in parts:
            # Before any of them is stored, each has to be the next of its user.
            assert part.state is not None
            check_next(part.state, by_user[part.keys.user_id])
        await self._write(parts)

    async def ping(self) -> None:
        """See the port. Every master of a cluster has to answer."""
        try:
            await self._link.ping()
        except (DownError, LostError, UnfitError, ResponseError) as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._reader.close()
        await self._link.close()

    async def _write(self, parts: Sequence[Part]) -> None:
        """Store parts, and be waited for by `close`."""
        if self._closed:
            raise StoreUnavailableError("The ledger is closed.")
        write = asyncio.ensure_future(self._writer.write(parts))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await write

    async def _accounts(
        self, bucket: int, behind: str, limit: int
    ) -> tuple[list[Account], int, str]:
        """Read about `limit` accounts from some buckets on; tell the place to go on from."""
        last = min(bucket + _BUCKETS_AT_ONCE, BUCKETS)
        lows = dict.fromkeys(range(bucket, last), "-")
        if behind:
            lows[bucket] = f"({behind}"
        counts = await self._reader.read(
            [
                Request(one, ("ZLEXCOUNT", f"{TAGS[one]}:users", low, "+"))
                for one, low in lows.items()
            ]
        )
        # As many whole buckets as fit into the page, and then a piece of one.
        chosen: dict[int, RedisCommand] = {}
        partial = False
        for one, count in zip(lows, counts, strict=True):
            if count and limit <= 0:
                last = one
                break
            if count:
                partial = count > limit
                piece = ("LIMIT", 0, limit) if partial else ()
                chosen[one] = ("ZRANGEBYLEX", f"{TAGS[one]}:users", lows[one], "+", *piece)
                limit -= count
        members: list[list[bytes]] = await self._reader.read(
            [Request(one, command) for one, command in chosen.items()]
        )
        rows = await self._reader.read(
            [
                Request(one, ("HMGET", f"{TAGS[one]}:accounts", *users))
                for one, users in zip(chosen, members, strict=True)
            ]
        )
        accounts = [
            read_account(user.decode(), row)
            for users, texts in zip(members, rows, strict=True)
            for user, row in zip(users, texts, strict=True)
        ]
        if partial:
            return accounts, list(chosen)[-1], members[-1][-1].decode()
        return accounts, last, ""

    def _remember(self, account: Account, text: bytes) -> None:
        self._cache[account.user_id] = account, text
        self._cache.move_to_end(account.user_id)
        if len(self._cache) > CACHED_ACCOUNTS:
            self._cache.popitem(last=False)


def _part(user_id: str, commands: Sequence[Command], rule: Rule) -> Part:
    """Make the part of a group of commands that is about one user."""

    def decide(state: State) -> tuple[Sequence[Transaction], Any]:
        outcomes = decide_group(state, commands, rule)
        return recorded(outcomes), outcomes

    return _part_of(user_id, Needs.of(commands), decide)


def _appending(user_id: str, transactions: Sequence[Transaction]) -> Part:
    """Make a part that stores transactions as they are."""

    def decide(state: State) -> tuple[Sequence[Transaction], Any]:
        check_next(state, transactions)
        for transaction in transactions:
            state.apply(transaction)
        return transactions, None

    return _part_of(user_id, Needs.of_transactions(transactions), decide)


def _part_of(user_id: str, needs: Needs, decide: Decide) -> Part:
    names = [name for _, name in needs.keys]
    return Part(UserKeys(user_id), names, sorted(place for _, place in needs.charges), decide)


def _root(error: BaseException) -> str:
    """Tell the innermost cause of a failed connection; redis-py's texts hold no password."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
