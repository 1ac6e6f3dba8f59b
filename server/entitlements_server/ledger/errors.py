"""Everything that the rules can reject a request for. `errors.py` at the root draws the whole tree."""

from entitlements_server.errors import CallError, FieldViolation


class LedgerError(CallError):
    """A request that the rules reject. Nothing was charged."""


class InvalidFieldError(LedgerError):
    """A field is malformed or out of range, or the request cannot be read.

    Args:
        field: Its name.
        description: What it should be, as the end of a sentence that begins with the field.
    """

    reason = "INVALID_FIELD"
    code = "INVALID_ARGUMENT"
    remedy = "Do not send it again as it is: mend the request. `BadRequest` names the field."
    metadata_keys = ("field",)

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"The field '{field}' {description}.", field=field)
        self.field_violation = FieldViolation(field, f"It {description}.")


class UnknownFeatureError(LedgerError):
    """The feature is not in the catalogue."""

    reason = "UNKNOWN_FEATURE"
    code = "NOT_FOUND"
    remedy = "Ask ListFeatures for the ids."
    metadata_keys = ("feature",)

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"There is no feature '{feature}' in the catalogue; ListFeatures names those there are.",
            feature=feature,
        )


class TransactionNotFoundError(LedgerError):
    """The user has no transaction of that id."""

    reason = "TRANSACTION_NOT_FOUND"
    code = "NOT_FOUND"
    remedy = "Ask ListTransactions for the ids."
    metadata_keys = ("user_id", "transaction_id")

    def __init__(self, user_id: str, transaction_id: str) -> None:
        super().__init__(
            f"User '{user_id}' has no transaction '{transaction_id}';"
            " ListTransactions shows those there are.",
            user_id=user_id,
            transaction_id=transaction_id,
        )


class InsufficientTokensError(LedgerError):
    """The available tokens do not cover the cost; the attempt was recorded as denied, unless there were many.

    Args:
        user_id: Whose tokens they are.
        feature: What was to be charged for.
        required: The cost.
        available: Tokens that can be spent.
        transaction_id: The denied attempt, or None: too many of this user were recorded in this minute.
    """

    reason = "INSUFFICIENT_TOKENS"
    code = "FAILED_PRECONDITION"
    remedy = "Top up, then send the same request again, with the same key if it had one."
    metadata_keys = ("feature", "required", "available", "recorded", "transaction_id", "user_id")

    def __init__(
        self,
        *,
        user_id: str,
        feature: str,
        required: int,
        available: int,
        transaction_id: str | None,
    ) -> None:
        super().__init__(
            f"The feature '{feature}' costs {required} tokens and user '{user_id}' has {available};"
            f" nothing was charged. Top up {required - available} or more, then ask again.",
            feature=feature,
            required=required,
            available=available,
            recorded="false" if transaction_id is None else "true",
            transaction_id=transaction_id,
            user_id=user_id,
        )


class PriceChangedError(LedgerError):
    """The cost is higher than the request accepts."""

    reason = "PRICE_CHANGED"
    code = "FAILED_PRECONDITION"
    remedy = "Show the new price; if it is accepted, send the request again with it as `max_cost`."
    metadata_keys = ("feature", "max_cost", "cost")

    def __init__(self, *, feature: str, max_cost: int, cost: int) -> None:
        super().__init__(
            f"The feature '{feature}' costs {cost} tokens now and the request accepts {max_cost}; nothing"
            f" was charged. Ask again with a max_cost of {cost} or more to accept that price.",
            feature=feature,
            max_cost=max_cost,
            cost=cost,
        )


class IdempotencyKeyReusedError(LedgerError):
    """The key is bound to another request of this user."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    code = "ALREADY_EXISTS"
    remedy = "Use a new key for a new request; `field` names the first field that differs."
    metadata_keys = ("idempotency_key", "field", "transaction_id")

    def __init__(self, *, idempotency_key: str, field: str, transaction_id: str) -> None:
        super().__init__(
            f"The idempotency key '{idempotency_key}' belongs to transaction '{transaction_id}',"
            f" whose '{field}' differs; use a new key for a new request.",
            idempotency_key=idempotency_key,
            field=field,
            transaction_id=transaction_id,
        )


class NotRefundableError(LedgerError):
    """The transaction is not a charge that took tokens."""

    reason = "NOT_REFUNDABLE"
    code = "FAILED_PRECONDITION"
    remedy = "Nothing: there are no tokens to give back."
    metadata_keys = ("transaction_id",)

    def __init__(self, transaction_id: str) -> None:
        super().__init__(
            f"Transaction '{transaction_id}' is not a charge that took tokens,"
            " so there is nothing to refund.",
            transaction_id=transaction_id,
        )


class RefundExceedsChargeError(LedgerError):
    """The refund is larger than what remains of the charge."""

    reason = "REFUND_EXCEEDS_CHARGE"
    code = "FAILED_PRECONDITION"
    remedy = "Ask for at most `remaining`, or for 0: all of it."
    metadata_keys = ("transaction_id", "amount", "remaining")

    def __init__(self, *, transaction_id: str, amount: int, remaining: int) -> None:
        super().__init__(
            f"A refund of {amount} tokens is more than the {remaining} that remain of charge"
            f" '{transaction_id}'; ask for at most that, or for 0 to get all that remains.",
            transaction_id=transaction_id,
            amount=amount,
            remaining=remaining,
        )


class BalanceLimitExceededError(LedgerError):
    """The balance would pass its limit."""

    reason = "BALANCE_LIMIT_EXCEEDED"
    code = "FAILED_PRECONDITION"
    remedy = "Add at most `limit` less `balance`."
    metadata_keys = ("balance", "amount", "limit")

    def __init__(self, *, balance: int, amount: int, limit: int) -> None:
        super().__init__(
            f"Adding {amount} tokens to a balance of {balance} would pass the limit of {limit};"
            f" add at most {limit - balance}.",
            balance=balance,
            amount=amount,
            limit=limit,
        )


class TooManyGrantsError(LedgerError):
    """The top-up would open a grant, and as many are open as may be."""

    reason = "TOO_MANY_GRANTS"
    code = "FAILED_PRECONDITION"
    remedy = "Use the expiry of an open grant, which GetAccount shows, or no expiry."
    metadata_keys = ("user_id", "limit")

    def __init__(self, user_id: str, limit: int) -> None:
        super().__init__(
            f"User '{user_id}' has {limit} open grants, which is the limit, and nothing was added; use the"
            " expiry of one of them, or no expiry.",
            user_id=user_id,
            limit=limit,
        )
