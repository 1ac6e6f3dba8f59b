"""What the ledger holds: accounts and the transactions that made them what they are.

A transaction is the only thing that is ever recorded. Accounts, bound keys and refund totals
all follow from the transactions of one user, in order: see `state.py`.

They are structs that Python's garbage collector leaves alone (`gc=False`): their fields
are texts, numbers and one another, so there cannot be a cycle, and a server holds many of them.
"""

from enum import IntEnum
from hashlib import blake2b

from msgspec import Struct

from entitlements_server.ledger.limits import MAX_BALANCE


class Kind(IntEnum):
    """What a transaction did. The numbers are those of the contract and are stored."""

    CONSUME = 1
    REFUND = 2
    TOP_UP = 3
    ADJUSTMENT = 4


class Status(IntEnum):
    """How a transaction ended. The numbers are those of the contract and are stored."""

    SUCCESS = 1
    DENIED = 2


class Account(Struct, frozen=True, gc=False, array_like=True):
    """The tokens of one user.

    Attributes:
        user_id: Whose account.
        balance: Tokens: 0 to 2^53 - 1; the sum of `amount` over the history.
        transaction_count: Length of the history, and the sequence of its newest transaction.
        create_time_us: Time of the first transaction, microseconds since 1970 UTC; 0 if none.
        update_time_us: Time of the newest transaction, likewise.
    """

    user_id: str
    balance: int = 0
    transaction_count: int = 0
    create_time_us: int = 0
    update_time_us: int = 0


class Transaction(Struct, frozen=True, gc=False, array_like=True):
    """One line of a user's history. The contract describes each field.

    `transaction_id` and `balance_before` follow from the others and so are not stored. The order of
    the fields is that of stored rows: a new field may only be added at the end, with a default.
    """

    user_id: str
    sequence: int
    kind: Kind
    status: Status
    feature: str
    cost: int
    amount: int
    balance_after: int
    create_time_us: int
    event_id: str
    idempotency_key: str
    reason: str
    refunded_transaction_id: str
    caller: str
    catalogue_version: str

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

        So an id is unique over all users, finds its transaction without an index, and never
        names another one that has the same sequence, say after a restore from a backup.
        """
        identity = f"{self.user_id} {self.sequence} {self.create_time_us}".encode()
        return f"{self.sequence}-{blake2b(identity, digest_size=10).hexdigest()}"

    @property
    def binds_key(self) -> bool:
        """Whether this transaction binds its idempotency key: a denied one does not."""
        return bool(self.idempotency_key) and self.status is Status.SUCCESS


def sequence_of(transaction_id: str) -> int | None:
    """Return the sequence that a transaction id names, or None when it cannot be an id of ours."""
    sequence, _, digest = transaction_id.partition("-")
    if not digest or not sequence.isascii() or not sequence.isdigit() or len(sequence) > 15:  # noqa: PLR2004  # 10^15 fits every store
        return None
    return int(sequence)


class Charge(Struct, frozen=True, gc=False):
    """A transaction that a refund names, with what was given back of it so far.

    Attributes:
        transaction: The transaction named; the rules decide whether it is a charge.
        refunded: Tokens given back so far: 0 to its cost.
        last_refund: The newest refund of it, if any.
    """

    transaction: Transaction
    refunded: int = 0
    last_refund: Transaction | None = None

    @property
    def took_tokens(self) -> bool:
        """Whether it is a successful charge that was not free: only those can be refunded."""
        charge = self.transaction
        return charge.kind is Kind.CONSUME and charge.status is Status.SUCCESS and charge.cost > 0

    @property
    def remaining(self) -> int:
        """Tokens that can still be given back."""
        return self.transaction.cost - self.refunded


class Facts(Struct, frozen=True, gc=False):
    """What a decision has to know besides the account.

    Attributes:
        bound: The transaction that the command's idempotency key is bound to, if any.
        charge: The charge that a refund names, if there is such a transaction.
    """

    bound: Transaction | None = None
    charge: Charge | None = None


NO_FACTS = Facts()
"""Neither a bound key nor a charge."""
