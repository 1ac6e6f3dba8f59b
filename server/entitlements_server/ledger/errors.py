"""Everything that the rules can reject a request for.

    LedgerError
    ├── InvalidFieldError            a field is malformed or out of range
    ├── UnknownFeatureError          not in the catalogue
    ├── TransactionNotFoundError     no such transaction of that user
    ├── InsufficientTokensError      denied: the balance is too small
    ├── IdempotencyKeyReusedError    the key is bound to another request
    ├── NotRefundableError           not a successful charge, or free
    ├── RefundExceedsChargeError     more than remains of the charge
    └── BalanceLimitExceededError    the balance would pass its limit

The message is a sentence for people; `metadata` repeats its values for programs.
"""

from collections.abc import Mapping


class LedgerError(Exception):
    """A request that the rules reject. Nothing was charged."""

    def __init__(self, message: str, metadata: Mapping[str, str]) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidFieldError(LedgerError):
    """A field is malformed or out of range; `description` says what it should be."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"The field '{field}' {description}.", {"field": field})
        self.field = field
        self.description = description


class UnknownFeatureError(LedgerError):
    """The feature is not in the catalogue."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"There is no feature '{feature}' in the catalogue; ListFeatures names those there are.",
            {"feature": feature},
        )


class TransactionNotFoundError(LedgerError):
    """The user has no transaction of that id."""

    def __init__(self, user_id: str, transaction_id: str) -> None:
        super().__init__(
            f"User '{user_id}' has no transaction '{transaction_id}';"
            " ListTransactions shows those there are.",
            {"user_id": user_id, "transaction_id": transaction_id},
        )


class InsufficientTokensError(LedgerError):
    """The balance does not cover the cost; the attempt was recorded as denied."""

    def __init__(
        self, *, user_id: str, feature: str, required: int, available: int, transaction_id: str
    ) -> None:
        super().__init__(
            f"The feature '{feature}' costs {required} tokens and user '{user_id}' has {available};"
            f" nothing was charged. Top up {required - available} or more, then ask again.",
            {
                "feature": feature,
                "required": str(required),
                "available": str(available),
                "transaction_id": transaction_id,
                "user_id": user_id,
            },
        )


class IdempotencyKeyReusedError(LedgerError):
    """The key is bound to a request that differs in `field`."""

    def __init__(self, *, idempotency_key: str, field: str, transaction_id: str) -> None:
        super().__init__(
            f"The idempotency key '{idempotency_key}' belongs to transaction '{transaction_id}',"
            f" whose '{field}' differs; use a new key for a new request.",
            {
                "idempotency_key": idempotency_key,
                "field": field,
                "transaction_id": transaction_id,
            },
        )


class NotRefundableError(LedgerError):
    """The transaction took no tokens, so none can be given back."""

    def __init__(self, transaction_id: str) -> None:
        super().__init__(
            f"Transaction '{transaction_id}' is not a charge that took tokens,"
            " so there is nothing to refund.",
            {"transaction_id": transaction_id},
        )


class RefundExceedsChargeError(LedgerError):
    """The refund is larger than what remains of the charge."""

    def __init__(self, *, transaction_id: str, amount: int, remaining: int) -> None:
        super().__init__(
            f"A refund of {amount} tokens is more than the {remaining} that remain of charge"
            f" '{transaction_id}'; ask for at most that, or for 0 to get all that remains.",
            {
                "transaction_id": transaction_id,
                "amount": str(amount),
                "remaining": str(remaining),
            },
        )


class BalanceLimitExceededError(LedgerError):
    """The balance would pass its limit."""

    def __init__(self, *, balance: int, amount: int, limit: int) -> None:
        super().__init__(
            f"Adding {amount} tokens to a balance of {balance} would pass the limit of {limit};"
            f" add at most {limit - balance}.",
            {"balance": str(balance), "amount": str(amount), "limit": str(limit)},
        )
