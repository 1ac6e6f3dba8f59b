"""The four writes. A command is always well formed: its constructor checks every argument.

All commands have these fields: `user_id`, the account to change; `idempotency_key`, which makes a
retry safe, or empty; `caller`, the name of the authenticated caller, or empty.
"""

from msgspec import Struct

from entitlements_server.ledger.validation import (
    check_amount,
    check_balance,
    check_id,
    check_key,
    check_optional_id,
    check_text,
)


class Consume(Struct, frozen=True, gc=False, kw_only=True):
    """Charge for one use of a feature, at the catalogue's price.

    Raises:
        InvalidFieldError: An argument is malformed.
    """

    user_id: str
    feature: str
    event_id: str = ""
    idempotency_key: str = ""
    caller: str = ""

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_id("feature", self.feature)
        check_optional_id("event_id", self.event_id)
        check_key(self.idempotency_key)


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

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_id("transaction_id", self.transaction_id)
        check_amount("amount", self.amount, minimum=0)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)


class TopUp(Struct, frozen=True, gc=False, kw_only=True):
    """Add `amount` tokens.

    Raises:
        InvalidFieldError: An argument is malformed or out of range.
    """

    user_id: str
    amount: int
    reason: str = ""
    idempotency_key: str = ""
    caller: str = ""

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_amount("amount", self.amount)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)


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

    def __post_init__(self) -> None:
        check_id("user_id", self.user_id)
        check_balance("balance", self.balance)
        check_text("reason", self.reason)
        check_key(self.idempotency_key)


Command = Consume | Refund | TopUp | SetBalance
"""Any write."""
