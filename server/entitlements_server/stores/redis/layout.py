"""What is stored under which key, and how it is written.

Users are dealt into buckets. All keys of a bucket share one hash tag, so one slot of a cluster
holds everything of a user and the list of users that it is in. The tag comes first in a key: what
braces a user id may have is of no matter.

    {<bucket>}:accounts             hash     user id -> account
    {<bucket>}:users                zset     user ids, in order: to read all accounts
    {<bucket>}:keys:<user id>       hash     idempotency key -> sequence
    {<bucket>}:refunds:<user id>    hash     sequence of a charge -> refunded, newest refund
    {<bucket>}:history:<n>:<user id>   list  transactions n * PIECE + 1 and up to PIECE - 1 more
    {<bucket>}:turn:<user id>       string   which write goes first, for an instant
    {<bucket>}:barrier              string   for an instant: something for replicas to confirm
"""

from binascii import crc32

import msgspec

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.rows import to_json

BUCKETS = 1024
"""Into how many buckets users are dealt. It can never change for a ledger that exists."""

PIECE = 1024
"""Transactions in one list. Lists are short, so any place of a history is quick to reach."""

TAGS = tuple(f"{{ent:{bucket}}}" for bucket in range(BUCKETS))
"""The hash tag of each bucket."""

_IMPLIED = 2
"""The first two columns of a row, user and sequence, follow from its key and place."""


def bucket_of(user_id: str) -> int:
    """Tell the bucket of a user."""
    return crc32(user_id.encode()) % BUCKETS


class UserKeys:
    """The names of the keys of one user.

    Attributes:
        user_id: Whose keys.
        bucket: Of the user.
        accounts: The accounts of the bucket.
        users: The users of the bucket.
        bound: The user's idempotency keys.
        refunds: What was refunded of the user's charges.
        turn: Which write goes first.
        barrier: Something for replicas to confirm.
    """

    __slots__ = (
        "_tag", "accounts", "barrier", "bound", "bucket", "refunds", "turn", "user_id", "users",
    )  # fmt: skip

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.bucket = bucket_of(user_id)
        tag = self._tag = TAGS[self.bucket]
        self.accounts = f"{tag}:accounts"
        self.users = f"{tag}:users"
        self.bound = f"{tag}:keys:{user_id}"
        self.refunds = f"{tag}:refunds:{user_id}"
        self.turn = f"{tag}:turn:{user_id}"
        self.barrier = f"{tag}:barrier"

    def piece(self, number: int) -> str:
        """Name one piece of the history."""
        return f"{self._tag}:history:{number}:{self.user_id}"

    def place(self, sequence: int) -> tuple[str, int]:
        """Tell the piece that holds a transaction, and the index in it."""
        number, index = divmod(sequence - 1, PIECE)
        return self.piece(number), index


def write_account(account: Account, stamp: str) -> str:
    """Write an account. The stamp is another for each write: equal texts mean nothing changed."""
    return (
        f"{account.balance} {account.transaction_count} {account.create_time_us}"
        f" {account.update_time_us} {stamp}"
    )


def read_account(user_id: str, text: bytes | None) -> Account:
    """Read an account: an empty one if there is none."""
    if not text:
        return Account(user_id)
    balance, count, created, updated, _ = text.split(b" ")
    return Account(user_id, int(balance), int(count), int(created), int(updated))


def write_transaction(transaction: Transaction, stamp: str) -> str:
    """Write a transaction, with the stamp of the write that it is part of."""
    return to_json((stamp, *msgspec.structs.astuple(transaction)[_IMPLIED:]))


def read_transaction(user_id: str, sequence: int, text: bytes) -> Transaction:
    """Read a transaction."""
    return msgspec.convert([user_id, sequence, *msgspec.json.decode(text)[1:]], Transaction)


def stamp_of(text: bytes | None) -> str:
    """Tell the stamp of a written transaction, or '' if there is none."""
    if not text:
        return ""
    stamp: str = msgspec.json.decode(text)[0]
    return stamp


def write_refund(refunded: int, last_sequence: int) -> str:
    """Write what was refunded of a charge, and by which refund last."""
    return f"{refunded} {last_sequence}"


def read_refund(text: bytes) -> tuple[int, int]:
    """Read what was refunded of a charge, and the sequence of the newest refund."""
    refunded, last = text.split(b" ")
    return int(refunded), int(last)
