"""The writes. A command is always well formed: its constructor checks every argument.

All commands have these fields: `user_id`, the account to change; `idempotency_key`, which makes a
retry safe, or empty; `caller`, the name of the authenticated caller, or empty; `reason` and `labels`, which
are recorded.

No check looks at the clock: the retry of a command that succeeded must stay well formed.
"""

from typing import ClassVar

from msgspec import Struct

from entitlements_server.ledger.validation import (
    check_amount,
    check_balance,
    check_expire_time,
    check_id,
    check_key,
    check_labels,
    check_optional_id,
    check_period,
    check_quantity,
    check_text,
)
from entitlements_server.ledger.values import Labels


class Consume(Struct, frozen=True, gc=False, kw_only=True):
    """Charge for uses of a feature, at the catalogue's price.

    Attributes:
        quantity: Uses, 1 to 10^6.
        max_cost: Highest total cost to accept, in tokens; None: any.

    Raises:
        InvalidFieldError: An argument is malformed.
    """

    user_id: str
    feature: str
    event_id: str = ""
    quantity: int = 1
    max_cost: int | None = None
    idempotency_key: str = ""
    caller: str = ""
    labels: Labels = ()
    reason: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_id("feature", self.feature)
        check_optional_id("event_id", self.event_id)
        check_key(self.idempotency_key)
        if self.quantity != 1:
            check_quantity(self.quantity)
        if self.max_cost is not None:
            check_amount("max_cost", self.max_cost, minimum=0)
        if self.labels:
            check_labels(self.labels)


class Refund(Struct, frozen=True, gc=False, kw_only=True):
    """Give back `amount` tokens of a charge; 0 gives back everything that remains.

    Raises:
        InvalidFieldError: An argument is malformed or out of range.
    """

    user_id: str
    transaction_id: str
    amount: int = 0
    reason: str = ""
    idempotency_key: str = ""
    caller: str = ""
    labels: Labels = ()

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_id("transaction_id", self.transaction_id)
        check_amount("amount", self.amount, minimum=0)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)
        check_labels(self.labels)


class TopUp(Struct, frozen=True, gc=False, kw_only=True):
    """Add `amount` tokens, which may expire: at a time, or after a lifetime, but not both.

    Attributes:
        expire_time_us: When they expire, microseconds since 1970 UTC; None: not at a given time.
        lifetime_us: How long they last from the decision on, microseconds; None: not for a given time.

    Raises:
        InvalidFieldError: An argument is malformed or out of range.
    """

    user_id: str
    amount: int
    expire_time_us: int | None = None
    lifetime_us: int | None = None
    reason: str = ""
    idempotency_key: str = ""
    caller: str = ""
    labels: Labels = ()

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_amount("amount", self.amount)
        if self.expire_time_us is not None:
            check_expire_time(self.expire_time_us)
        if self.lifetime_us is not None:
            check_period("lifetime", self.lifetime_us)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)
        check_labels(self.labels)
        assert self.expire_time_us is None or self.lifetime_us is None


class SetBalance(Struct, frozen=True, gc=False, kw_only=True):
    """Set the balance to `balance` tokens.

    Raises:
        InvalidFieldError: An argument is malformed or out of range.
    """

    user_id: str
    balance: int
    reason: str = ""
    idempotency_key: str = ""
    caller: str = ""
    labels: Labels = ()

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_balance("balance", self.balance)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)
        check_labels(self.labels)


class Settle(Struct, frozen=True, gc=False, kw_only=True):
    """Record what has lapsed of an account. The service itself does this; there is no RPC for it."""

    user_id: str
    idempotency_key: ClassVar[str] = ""
    caller: ClassVar[str] = ""
    reason: ClassVar[str] = ""
    labels: ClassVar[Labels] = ()


CallerCommand = Consume | Refund | TopUp | SetBalance
"""A write that a caller can ask for."""

Command = CallerCommand | Settle
"""Any write."""
