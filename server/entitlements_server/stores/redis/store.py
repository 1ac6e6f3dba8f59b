"""The Redis store: the port, on a link to one server or to a cluster."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
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
from entitlements_server.stores.redis.node import DownError, LostError, UnfitError
from entitlements_server.stores.redis.part import Decide, Part
from entitlements_server.stores.redis.reading import Reader
from entitlements_server.stores.redis.url import RedisUrl, parse
from entitlements_server.stores.redis.writing import Writer, unavailable

CACHED_ACCOUNTS = 100_000
"""Accounts kept in memory, about 50 MB: what a decision is taken on before it is confirmed."""

_BUCKETS_AT_ONCE = 128


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
        await self._writer.write(parts)
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
        buckets = range(bucket, min(bucket + _BUCKETS_AT_ONCE, BUCKETS))
        lows = [f"({behind}" if behind and one == bucket else "-" for one in buckets]
        counts = await self._reader.read(
            [
                Request(one, ("ZLEXCOUNT", f"{TAGS[one]}:users", low, "+"))
                for one, low in zip(buckets, lows, strict=True)
            ]
        )
        # As many buckets as fill the page: the last of them maybe not to its end.
        enough = next((n for n, sum_ in enumerate(accumulate(counts), 1) if sum_ >= limit), None)
        chosen = list(zip(buckets, lows, strict=True))[:enough]
        members: list[list[bytes]] = await self._reader.read(
            [
                Request(one, ("ZRANGEBYLEX", f"{TAGS[one]}:users", low, "+", "LIMIT", 0, limit))
                for one, low in chosen
                if counts[one - bucket]
            ]
        )
        filled = [one for one, _ in chosen if counts[one - bucket]]
        accounts: list[Account] = []
        texts = await self._reader.read(
            [
                Request(one, ("HMGET", f"{TAGS[one]}:accounts", *users))
                for one, users in zip(filled, members, strict=True)
                if users
            ]
        )
        for users, rows in zip([users for users in members if users], texts, strict=True):
            accounts += (
                read_account(user.decode(), row) for user, row in zip(users, rows, strict=True)
            )
        if enough is not None and members and len(members[-1]) == limit:
            return AccountPage(accounts, f"{filled[-1]}:{members[-1][-1].decode()}")
        following = chosen[-1][0] + 1
        return AccountPage(accounts, f"{following}:" if following < BUCKETS else "")

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
        await self._writer.write(parts)

    async def ping(self) -> None:
        """See the port. Every master of a cluster has to answer."""
        try:
            await self._link.ping()
        except (DownError, LostError, UnfitError, ResponseError) as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """See the port."""
        await self._reader.close()
        await self._link.close()

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
