"""What is stored under which key; `codec.py` says how it is written.

Users are distributed over buckets. All keys of a bucket share one hash tag, so everything about a
user, and the list of users that includes it, is in one slot of a cluster. The tag comes first in a
key, so braces in a user id do not matter.

    {<bucket>}:accounts             hash     user id -> account
    {<bucket>}:users                zset     user ids, in order: to read all accounts
    {<bucket>}:keys:<user id>       hash     idempotency key -> sequence
    {<bucket>}:refunds:<user id>    hash     sequence of a charge -> refunded, newest refund
    {<bucket>}:history:<n>:<user id>  list  transactions n * CHUNK + 1 and up to CHUNK - 1 more
    {<bucket>}:lease:<user id>      string   the write that goes first, for half a second
    {<bucket>}:due                  zset     user id -> when something lapses, us since 1970 UTC
    {<bucket>}:changes              list     the change feed: sequences and user, in write order
    {<bucket>}:trimmed              string   entries dropped from the start of that list; absent: none
    {<bucket>}:replication-barrier  string   written for replicas to confirm; expires at once
    {ent:0}:format                  string   format of the ledger, as major.minor
    {ent:0}:identity                string   id and generation of the ledger, with a space between
"""

from binascii import crc32

BUCKETS = 1024
"""The number of buckets. It can never change for an existing ledger."""

CHUNK = 1024
"""Transactions per list. Lists are short, so that any part of a history is quick to reach."""

TAGS = tuple(f"{{ent:{bucket}}}" for bucket in range(BUCKETS))
"""The hash tag of each bucket."""

FORMAT_KEY = f"{TAGS[0]}:format"
"""The format of the ledger: the highest minor version that has opened it."""

IDENTITY_KEY = f"{TAGS[0]}:identity"
"""The identity of the ledger."""


def bucket_of(user_id: str) -> int:
    """Return the bucket of a user."""
    return crc32(user_id.encode()) % BUCKETS


class UserKeys:
    """The Redis keys of one user.

    Attributes:
        user_id: The user.
        bucket: The user's bucket.
        accounts: The accounts of the bucket.
        users: The users of the bucket.
        bound: The user's idempotency keys.
        refunds: What was refunded of the user's charges.
        due: When something of each user of the bucket lapses next.
        changes: The change feed of the bucket.
        lease: The write that goes first.
        replication_barrier: Written for replicas to confirm.
    """

    __slots__ = (
        "_tag",
        "accounts",
        "bound",
        "bucket",
        "changes",
        "due",
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
        self.due = f"{tag}:due"
        self.changes = f"{tag}:changes"
        self.lease = f"{tag}:lease:{user_id}"
        self.replication_barrier = f"{tag}:replication-barrier"

    def chunk(self, number: int) -> str:
        """Return the key of one chunk of the history."""
        return f"{self._tag}:history:{number}:{self.user_id}"

    def index_of(self, sequence: int) -> tuple[str, int]:
        """Return the key of a transaction's chunk, and its index in it."""
        number, index = divmod(sequence - 1, CHUNK)
        return self.chunk(number), index
