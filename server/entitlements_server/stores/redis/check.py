"""Checks what no reading of the histories shows: the types of keys, and the lists of users."""

from collections.abc import Sequence
from typing import Any

from entitlements_server.ledger.values import Account
from entitlements_server.stores.interface import MAX_PAGE, DamagedRecordError, Finding, Store
from entitlements_server.stores.redis.reader import Reader
from entitlements_server.stores.redis.schema import BUCKETS, TAGS, UserKeys
from entitlements_server.stores.redis.topology import Request

_AT_ONCE = 256
_OF_BUCKET = (("HLEN", "accounts"), ("ZCARD", "users"), ("ZCARD", "due"), ("LLEN", "changes"))
_TRIES = 3
"""How often two lengths are read until they agree: a server may be writing."""


async def check(store: Store, reader: Reader) -> list[Finding]:
    """Check the types of all keys, the lengths of histories, and that every account is listed.

    Servers may be writing meanwhile.

    Returns:
        What is wrong.
    """
    findings: list[Finding] = []
    for first in range(0, BUCKETS, _AT_ONCE):
        for index, replies in enumerate(await _lengths(reader, range(first, first + _AT_ONCE))):
            findings += _findings(replies, [""] * len(replies))
            if _differ(replies):
                findings += await _check_lists(reader, first + index)
    cursor = ""
    while True:
        page = await store.accounts(cursor, MAX_PAGE)
        findings += await _check_users(store, reader, page.accounts)
        cursor = page.next_cursor
        if not cursor:
            return findings


async def _lengths(reader: Reader, buckets: range) -> list[list[Any]]:
    """Read the lengths of the keys of each bucket."""
    requests = [
        Request(bucket, (command, f"{TAGS[bucket]}:{name}"))
        for bucket in buckets
        for command, name in _OF_BUCKET
    ]
    replies = iter(await reader.read_each(requests))
    return [[next(replies) for _ in _OF_BUCKET] for _ in buckets]


def _differ(lengths: Sequence[Any]) -> bool:
    accounts, users, *_ = lengths
    return isinstance(accounts, int) and isinstance(users, int) and accounts != users


async def _check_lists(reader: Reader, bucket: int) -> list[Finding]:
    """Compare the number of accounts with the number of listed users again."""
    for _ in range(_TRIES):
        (lengths,) = await _lengths(reader, range(bucket, bucket + 1))
        if not _differ(lengths):
            return []
    tag = TAGS[bucket]
    what = f"{tag}:accounts has {lengths[0]} accounts and {tag}:users lists {lengths[1]}"
    return [Finding("", "", what)]


async def _check_users(store: Store, reader: Reader, accounts: Sequence[Account]) -> list[Finding]:
    requests: list[Request] = []
    for account in accounts:
        keys = UserKeys(account.user_id)
        newest, _ = keys.index_of(account.transaction_count + 1)
        commands = (("HLEN", keys.bound), ("HLEN", keys.refunds), ("LLEN", newest))
        requests += [Request(keys.bucket, command) for command in commands]
    replies = await reader.read_each(requests)
    findings = _findings(replies, [one.user_id for one in accounts for _ in range(3)])
    for account, length in zip(accounts, replies[2::3], strict=True):
        count = account.transaction_count
        newest, right = UserKeys(account.user_id).index_of(count + 1)
        if not isinstance(length, int) or length == right:
            continue
        if (await store.account(account.user_id)).transaction_count == count:
            what = f"the key {newest} has {length} transactions, and its account says {right}"
            findings.append(Finding(account.user_id, "", what))
    return findings


def _findings(replies: Sequence[Any], users: Sequence[str]) -> list[Finding]:
    return [
        Finding(user_id, "", f"{one.record}: {one.problem}")
        for one, user_id in zip(replies, users, strict=True)
        if isinstance(one, DamagedRecordError)
    ]
