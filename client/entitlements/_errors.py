"""The errors that a call to the service may raise.

    EntitlementError
    ├── AccessDeniedError              the balance does not cover the feature
    ├── ChargeRefundedError            the charge of this key was refunded; use a new key
    ├── AccessEndedError               the access window of this key's charge has ended; use a new key
    ├── PriceChangedError              the feature costs more than `max_cost`
    ├── InvalidRequestError            a field is malformed or out of range
    ├── UnknownFeatureError            the catalogue has no such feature
    ├── TransactionNotFoundError       the user has no such transaction
    ├── IdempotencyKeyReusedError      the key belongs to another request of this user
    ├── NotRefundableError             not a successful charge, or a free one
    ├── RefundExceedsChargeError       more than what remains of the charge
    ├── BalanceLimitExceededError      the balance would exceed its limit
    ├── TooManyGrantsError             the account has as many grants as may be open
    ├── CallerRefusedError             missing or wrong credentials, or a role that lacks rights
    └── ServiceError                   a failure that the request did not cause
        ├── ServiceUnavailableError    unreachable, too slow, overloaded, or its disk is failing
        ├── RateLimitedError           this program calls too often
        └── UnexpectedServiceError     anything else

An error never means that access was granted. After a `ServiceError` it is not known whether a write
took effect. Send it again with the error's `idempotency_key`: it then takes effect once.
"""

from collections.abc import Mapping
from datetime import datetime

from grpc import StatusCode


class EntitlementError(Exception):
    """A failure of a call to the entitlement service.

    Attributes:
        code: The gRPC status code, or None if the error was raised by the client itself.
        reason: Name of the contract's `ErrorReason` without its prefix, or empty if the error
            does not come from the entitlement service.
        metadata: Every value in the message, as text.
        idempotency_key: The key of the failed write, whether yours or made by the client. Empty
            for reads and for batches.
        retry_after_s: How long the service asks to wait before a retry, in seconds, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        # Only the message goes into `args` and the rest has defaults, so that it can be pickled.
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.idempotency_key = idempotency_key
        self.retry_after_s = retry_after_s

    def _tokens(self, name: str) -> int:
        # An exception in here would hide the error, so a missing or malformed number reads as 0.
        value = self.metadata.get(name, "")
        return int(value) if value.isdecimal() else 0

    def _text(self, name: str) -> str:
        return self.metadata.get(name, "")


class AccessDeniedError(EntitlementError):
    """The available tokens do not cover the cost. Nothing was charged."""

    @property
    def required(self) -> int:
        """Total cost, in tokens."""
        return self._tokens("required")

    @property
    def available(self) -> int:
        """Tokens that the user could spend at the time."""
        return self._tokens("available")

    @property
    def feature(self) -> str:
        """The feature that was asked for."""
        return self._text("feature")

    @property
    def transaction_id(self) -> str:
        """The recorded attempt; empty if too many attempts of the user were recorded in this minute."""
        return self._text("transaction_id")


class ChargeRefundedError(EntitlementError):
    """The idempotency key belongs to a charge that was fully refunded.

    So it gives access to nothing any more. Ask again with a new key, which is a new charge.
    """

    @property
    def transaction_id(self) -> str:
        """The charge that was refunded."""
        return self._text("transaction_id")


class AccessEndedError(EntitlementError):
    """The idempotency key belongs to a charge whose access window has ended.

    So it gives access to nothing any more. Ask again with a new key, which is a new charge.
    """

    @property
    def transaction_id(self) -> str:
        """The charge of the key."""
        return self._text("transaction_id")

    @property
    def access_until(self) -> datetime | None:
        """When its access ended, UTC."""
        text = self._text("access_until")
        return datetime.fromisoformat(text) if text else None


class PriceChangedError(EntitlementError):
    """The feature costs more than the `max_cost` of the request. Nothing was charged or recorded.

    Show the new price, and ask again with it as `max_cost`.
    """

    @property
    def feature(self) -> str:
        """The feature that was asked for."""
        return self._text("feature")

    @property
    def max_cost(self) -> int:
        """The highest total cost that the request accepted, in tokens."""
        return self._tokens("max_cost")

    @property
    def cost(self) -> int:
        """The total cost now, in tokens."""
        return self._tokens("cost")


class InvalidRequestError(EntitlementError):
    """A field is malformed or out of range. Correct the request."""

    @property
    def field(self) -> str:
        """The first field that is not valid."""
        return self._text("field")


class UnknownFeatureError(EntitlementError):
    """The catalogue has no such feature. `list_features()` lists them."""

    @property
    def feature(self) -> str:
        """The feature that was asked for."""
        return self._text("feature")


class TransactionNotFoundError(EntitlementError):
    """The user has no such transaction."""

    @property
    def transaction_id(self) -> str:
        """The transaction that was asked for."""
        return self._text("transaction_id")


class IdempotencyKeyReusedError(EntitlementError):
    """The idempotency key belongs to another request of this user. Use a new key."""

    @property
    def field(self) -> str:
        """The first field in which the two requests differ."""
        return self._text("field")

    @property
    def transaction_id(self) -> str:
        """The transaction that the key belongs to."""
        return self._text("transaction_id")


class NotRefundableError(EntitlementError):
    """The transaction is not a successful charge, or it was free."""

    @property
    def transaction_id(self) -> str:
        """The transaction of the request."""
        return self._text("transaction_id")


class RefundExceedsChargeError(EntitlementError):
    """The refund is larger than what remains of the charge."""

    @property
    def remaining(self) -> int:
        """Tokens that can still be refunded."""
        return self._tokens("remaining")

    @property
    def transaction_id(self) -> str:
        """The charge of the request."""
        return self._text("transaction_id")


class BalanceLimitExceededError(EntitlementError):
    """The balance would exceed its limit."""

    @property
    def limit(self) -> int:
        """The highest balance, in tokens."""
        return self._tokens("limit")


class TooManyGrantsError(EntitlementError):
    """The account has as many open grants as it may, and the top-up would open another.

    Use the expiry of an open grant, or none.
    """

    @property
    def limit(self) -> int:
        """Most open grants of an account."""
        return self._tokens("limit")


class CallerRefusedError(EntitlementError):
    """This program sent no valid credentials, or its roles do not allow the call."""


class ServiceError(EntitlementError):
    """The call failed, and not because of the request. Nothing is granted.

    It is not known whether a write took effect. Send it again with the same `idempotency_key`.
    """


class ServiceUnavailableError(ServiceError):
    """The service is unreachable, did not answer in time, or cannot work at the moment."""


class RateLimitedError(ServiceError):
    """This program calls too often. Wait for `retry_after_s`. Nothing was charged."""


class UnexpectedServiceError(ServiceError):
    """An unexpected failure. `reference` finds it in the log of the service."""

    @property
    def reference(self) -> str:
        """What to search for in the log of the service; may be empty."""
        return self._text("reference")
