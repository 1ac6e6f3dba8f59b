"""The contents of the ledger: accounts and transactions.

Only transactions are ever recorded. Accounts, bound keys and refund totals all follow from the
transactions of one user, in order: see `state.py`.

Each field is stored and hashed under its number in the contract, see `encoding.py`. Numbers above
100 are the ledger's own and never leave it. To add a field, add it to the contract and here, with an
empty or zero default: stores, copies and exports carry it (docs/adding.md).

The values are structs that Python's garbage collector ignores (`gc=False`): their fields are texts,
numbers, tuples and each other, so there can be no cycles, and a server holds many of them.
"""

from enum import IntEnum
from hashlib import blake2b
from typing import Self

from msgspec import Struct, field

from entitlements_server.ledger.limits import MAX_BALANCE

MAX_ENUM = 2**31 - 1
"""Highest number of an enum in the contract."""


class _OpenEnum(IntEnum):
    """Accepts numbers that only a newer version knows, so that its rows can be carried through."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 < value <= MAX_ENUM:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        known = cls._value2member_map_.setdefault(value, member)
        assert isinstance(known, cls)
        return known

    @property
    def is_known(self) -> bool:
        """Whether this version knows the number."""
        return self.name in type(self).__members__


class Kind(_OpenEnum):
    """What a transaction did. The numbers are those of the contract and are stored."""

    CONSUME = 1
    REFUND = 2
    TOP_UP = 3
    ADJUSTMENT = 4
    EXPIRE = 5


class Status(_OpenEnum):
    """How a transaction ended. The numbers are those of the contract and are stored."""

    SUCCESS = 1
    DENIED = 2


# Looking up an enum member is slow in Python 3.11, and every charge needs these.
_SUCCESS = Status.SUCCESS
_CONSUME = Kind.CONSUME


class Draw(Struct, frozen=True, gc=False, array_like=True):
    """Tokens of one grant, or of the pool: what a transaction moved, or what an account has open.

    Attributes:
        grant: Id of the transaction that opened the grant; empty: the pool, whose tokens never expire.
        amount: Tokens, 1 to 2^53 - 1.
        expire_time_us: When they expire, microseconds since 1970 UTC; 0: never.
    """

    grant: str
    amount: int
    expire_time_us: int


Draws = tuple[Draw, ...]
"""In the order in which they were moved, or in which they are taken."""

Labels = tuple[tuple[str, str], ...]
"""Keys and values, in the order of the keys."""


class Account(Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """The tokens of one user. What is not in `grants` is the pool of tokens that never expire.

    Attributes:
        user_id: The user.
        balance: Tokens, 0 to 2^53 - 1: the sum of `amount` over the history.
        transaction_count: Length of the history and sequence of its newest transaction.
        create_time_us: Time of the first transaction, microseconds since 1970 UTC; 0 if none.
        update_time_us: Time of the newest transaction, likewise.
        grants: Grants that have tokens left and whose expiry is not recorded yet, soonest first, at most
            64. Some may have lapsed: see `settlement.py`.
        head: Head of the chain of transactions, 32 bytes; empty if there are none: see `chain.py`.
        salt: Salt of the chain, from the first transaction.
        due_us: When something of the account lapses next, microseconds since 1970 UTC; 0: never.
        access_until_us: Latest end of its access windows, microseconds since 1970 UTC; 0: it never had any.
        churn_minute: The minute of its newest transaction, minutes since 1970 UTC, if something was
            denied in it.
        churn: Denials recorded in that minute.
        carried: Members that only a newer version knows, unchanged.
    """

    user_id: str = field(name="1")
    balance: int = field(default=0, name="2")
    transaction_count: int = field(default=0, name="3")
    create_time_us: int = field(default=0, name="4")
    update_time_us: int = field(default=0, name="5")
    grants: Draws = field(default=(), name="7")
    head: bytes = field(default=b"", name="101")
    salt: str = field(default="", name="102")
    due_us: int = field(default=0, name="103")
    access_until_us: int = field(default=0, name="104")
    churn_minute: int = field(default=0, name="105")
    churn: int = field(default=0, name="106")
    carried: bytes = b""


class Transaction(Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """An entry in a user's history. The contract describes each field.

    `transaction_id` and `balance_before` are derived and not stored. The impersonal fields come first. From
    `user_id` on, the fields are personal: ids of people and free texts, which can be erased without
    breaking the chain. Both parts are in the order of their numbers.

    Attributes:
        decision_time_us: When it was decided, if that differs from `create_time_us`, which never
            runs backwards; otherwise 0. Microseconds since 1970 UTC.
        quantity: Uses that were asked for, if there were several; otherwise 0.
        unavailable: Of a denied charge: tokens of the balance that could not be spent, as they had lapsed.
        salt: Salt of the chain, in the first transaction of a history only.
        carried: The whole transaction as stored, if it has members that only a newer version
            knows.
    """

    sequence: int = field(name="3")
    kind: Kind = field(name="4")
    status: Status = field(name="5")
    feature: str = field(default="", name="6")
    cost: int = field(default=0, name="7")
    amount: int = field(default=0, name="8")
    balance_after: int = field(default=0, name="10")
    create_time_us: int = field(default=0, name="11")
    event_id: str = field(default="", name="12")
    refunded_transaction_id: str = field(default="", name="15")
    catalogue_version: str = field(default="", name="17")
    decision_time_us: int = field(default=0, name="18")
    quantity: int = field(default=0, name="19")
    draws: Draws = field(default=(), name="20")
    expire_time_us: int = field(default=0, name="21")
    lifetime_us: int = field(default=0, name="22")
    access_until_us: int = field(default=0, name="23")
    unavailable: int = field(default=0, name="102")
    # Personal from here on. There is always a user id.
    user_id: str = field(default="", name="2")
    idempotency_key: str = field(default="", name="13")
    reason: str = field(default="", name="14")
    caller: str = field(default="", name="16")
    labels: Labels = field(default=(), name="25")
    salt: str = field(default="", name="101")
    carried: bytes = b""

    def __post_init__(self) -> None:
        assert self.sequence >= 1
        assert 0 <= self.balance_after <= MAX_BALANCE
        assert 0 <= self.balance_after - self.amount <= MAX_BALANCE

    @property
    def balance_before(self) -> int:
        """Tokens before this transaction."""
        return self.balance_after - self.amount

    @property
    def transaction_id(self) -> str:
        """The id: the sequence, then a digest of user, sequence and time.

        An id is unique across users, finds its transaction without an index, and never names
        another transaction with the same sequence, for instance after a restore from a backup.
        """
        return transaction_id_of(self.user_id, self.sequence, self.create_time_us)

    @property
    def available(self) -> int:
        """Tokens that could be spent before this transaction, if it is a denied charge."""
        return self.balance_before - self.unavailable

    @property
    def decided_us(self) -> int:
        """When it was decided, microseconds since 1970 UTC."""
        return self.decision_time_us or self.create_time_us

    @property
    def binds_key(self) -> bool:
        """Whether the transaction binds its idempotency key. A denied one does not."""
        return bool(self.idempotency_key) and self.status is _SUCCESS

    @property
    def window(self) -> str:
        """The name of the access window that it opened, or empty."""
        return window_name(self.feature, self.event_id) if self.access_until_us else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are bound to it: its idempotency key and its access window, if any."""
        key = (self.idempotency_key,) if self.binds_key else ()
        return (*key, self.window) if self.access_until_us else key


def transaction_id_of(user_id: str, sequence: int, create_time_us: int) -> str:
    """Return the id of a transaction: see `Transaction.transaction_id`."""
    identity = f"{user_id} {sequence} {create_time_us}".encode()
    return f"{sequence}-{blake2b(identity, digest_size=10).hexdigest()}"


def window_name(feature: str, event_id: str) -> str:
    """Return the name that an access window is bound under, among the idempotency keys of its user.

    No key that a caller can send is the same: keys have no spaces.
    """
    return f"{feature} {event_id}"


def sequence_of(transaction_id: str) -> int | None:
    """Return the sequence in a transaction id, or None if it is not an id of ours."""
    sequence, _, digest = transaction_id.partition("-")
    if not digest or not sequence.isascii() or not sequence.isdigit() or len(sequence) > 15:  # noqa: PLR2004  # 10^15 fits every store
        return None
    return int(sequence)


class Charge(Struct, frozen=True, gc=False):
    """A transaction that a refund names, and how much of it was given back.

    Attributes:
        transaction: The transaction; the rules decide whether it can be refunded.
        refunded: Tokens given back so far: 0 to its cost.
        last_refund: Its newest refund, if any.
    """

    transaction: Transaction
    refunded: int = 0
    last_refund: Transaction | None = None

    @property
    def took_tokens(self) -> bool:
        """Whether it is a successful charge that was not free. Only those can be refunded."""
        charge = self.transaction
        return charge.kind is _CONSUME and charge.status is _SUCCESS and charge.cost > 0

    @property
    def remaining(self) -> int:
        """Tokens that can still be given back."""
        return self.transaction.cost - self.refunded


class Facts(Struct, frozen=True, gc=False):
    """What a decision must know besides the account.

    Attributes:
        bound: The transaction that the idempotency key is bound to, if any.
        charge: The transaction that a refund names, if it exists.
        refunded: Tokens given back so far of `bound`.
        window: The newest charge that opened an access window for the feature and event, if any.
    """

    bound: Transaction | None = None
    charge: Charge | None = None
    refunded: int = 0
    window: Charge | None = None


NO_FACTS = Facts()
"""Neither a bound key nor a charge."""
