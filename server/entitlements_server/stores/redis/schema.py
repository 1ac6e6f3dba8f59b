"""What is stored under which key, and how it is written.

Users are dealt into buckets. All keys of a bucket share one hash tag, so one slot of a cluster
holds everything of a user and the list of users that it is in. The tag comes first in a key: what
braces a user id may have is of no matter.

    {<bucket>}:accounts             hash     user id -> account
    {<bucket>}:users                zset     user ids, in order: to read all accounts
    {<bucket>}:keys:<user id>       hash     idempotency key -> sequence
    {<bucket>}:refunds:<user id>    hash     sequence of a charge -> refunded, newest refund
    {<bucket>}:history:<n>:<user id>  list  transactions n * CHUNK + 1 and up to CHUNK - 1 more
    {<bucket>}:lease:<user id>      string   which write goes first, for half a second
    {<bucket>}:replication-barrier  string   for an instant: something for replicas to confirm
"""

from binascii import crc32

import msgspec

from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.sqlite.codec import to_json

BUCKETS = 1024
"""Into how many buckets users are dealt. It can never change for a ledger that exists."""

CHUNK = 1024
"""Transactions in one list. Lists are short, so any part of a history is quick to reach."""

TAGS = tuple(f"{{ent:{bucket}}}" for bucket in range(BUCKETS))
"""The hash tag of each bucket."""

_IMPLIED = 2
"""The first two columns of a row, user and sequence, follow from its key and index."""


def bucket_of(user_id: str) -> int:
    """Return the bucket of a user."""
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
        lease: Which write goes first.
        replication_barrier: Something for replicas to confirm.
    """

    __slots__ = (
        "_tag",
        "accounts",
        "bound",
        "bucket",
        "lease",
        "refunds",
        "replication_barrier",
        "user_id",
        "users",
    )  # fmt: skip

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.bucket = bucket_of(user_id)
        tag = self._tag = TAGS[self.bucket]
        self.accounts = f"{tag}:accounts"
        self.users = f"{tag}:users"
        self.bound = f"{tag}:keys:{user_id}"
        self.refunds = f"{tag}:refunds:{user_id}"
        self.lease = f"{tag}:lease:{user_id}"
        self.replication_barrier = f"{tag}:replication-barrier"

    def chunk(self, number: int) -> str:
        """Name one chunk of the history."""
        return f"{self._tag}:history:{number}:{self.user_id}"

    def index_of(self, sequence: int) -> tuple[str, int]:
        """Return the chunk that holds a transaction, and the index in it."""
        number, index = divmod(sequence - 1, CHUNK)
        return self.chunk(number), index


def write_account(account: Account, write_id: str) -> str:
    """Write an account. The write id is another for each write: equal texts mean nothing changed."""
    return (
        f"{account.balance} {account.transaction_count} {account.create_time_us}"
        f" {account.update_time_us} {write_id}"
    )


def read_account(user_id: str, text: bytes | None) -> Account:
    """Read an account: an empty one if there is none."""
    if not text:
        return Account(user_id)
    balance, count, created, updated, _ = text.split(b" ")
    return Account(user_id, int(balance), int(count), int(created), int(updated))


def write_transaction(transaction: Transaction, write_id: str) -> str:
    """Write a transaction, with the id of the write that it is part of."""
    return to_json((write_id, *msgspec.structs.astuple(transaction)[_IMPLIED:]))


def read_transaction(user_id: str, sequence: int, text: bytes) -> Transaction:
    """Read a transaction."""
    return msgspec.convert([user_id, sequence, *msgspec.json.decode(text)[1:]], Transaction)


def write_id_of(text: bytes | None) -> str:
    """Return the write id of a written transaction, or '' if there is none."""
    if not text:
        return ""
    write_id: str = msgspec.json.decode(text)[0]
    return write_id


def write_refund(refunded: int, last_sequence: int) -> str:
    """Write what was refunded of a charge, and by which refund last."""
    return f"{refunded} {last_sequence}"


def read_refund(text: bytes) -> tuple[int, int]:
    """Read what was refunded of a charge, and the sequence of the newest refund."""
    refunded, last = text.split(b" ")
    return int(refunded), int(last)
