"""Everything that a call to the service may raise.

    EntitlementError
    ├── AccessDeniedError              the balance does not cover the feature
    ├── ChargeRefundedError            the key's charge was given back: it grants nothing more
    ├── InvalidRequestError            a field is malformed or out of range
    ├── UnknownFeatureError            the catalogue has no such feature
    ├── TransactionNotFoundError       the user has no such transaction
    ├── IdempotencyKeyReusedError      the key belongs to another request of this user
    ├── NotRefundableError             not a successful charge, or a free one
    ├── RefundExceedsChargeError       more than what remains of the charge
    ├── BalanceLimitExceededError      the balance would pass its limit
    ├── CallerRefusedError             this program's credentials: missing, wrong, not allowed
    └── ServiceError                   nothing is known to be wrong with the request
        ├── ServiceUnavailableError    not reached, no answer in time, overloaded, failing disk
        ├── RateLimitedError           this program calls too often
        └── UnexpectedServiceError     anything else

None of them ever means that access was granted. After a `ServiceError` a write may or may not
have taken effect: sending it again under `idempotency_key` settles it as one.
"""

from collections.abc import Mapping

from grpc import StatusCode


class EntitlementError(Exception):
    """Any failure of a call to the entitlement service.

    Attributes:
        code: The gRPC status code, or None when the client itself decided.
        reason: Name of the contract's `ErrorReason` without its prefix, or empty when the
            error does not come from the entitlement service.
        metadata: Every value of the message, as text.
        idempotency_key: The key that the failed write was sent with, whether yours or made by
            the client. Empty for reads and for several charges at once.
        retry_after_s: How long the service asks to wait before another try, in seconds, or None.
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
        # Only the message goes into `args`, and the rest has defaults: so it can be pickled.
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.idempotency_key = idempotency_key
        self.retry_after_s = retry_after_s

    def _tokens(self, name: str) -> int:
        # An error about an error would hide it: what is absent or no number reads as 0.
        value = self.metadata.get(name, "")
        return int(value) if value.isdecimal() else 0

    def _text(self, name: str) -> str:
        return self.metadata.get(name, "")


class AccessDeniedError(EntitlementError):
    """The balance does not cover the feature. The attempt is recorded; nothing was charged."""

    @property
    def required(self) -> int:
        """Cost of the feature, in tokens."""
        return self._tokens("required")

    @property
    def available(self) -> int:
        """Balance of the user at that moment, in tokens."""
        return self._tokens("available")

    @property
    def feature(self) -> str:
        """The feature that was asked for."""
        return self._text("feature")

    @property
    def transaction_id(self) -> str:
        """The recorded attempt."""
        return self._text("transaction_id")


class ChargeRefundedError(EntitlementError):
    """The idempotency key belongs to a charge whose tokens were all given back.

    It was paid for and refunded, so it opens nothing any more. Ask again under a new key, which
    is a new charge.
    """

    @property
    def transaction_id(self) -> str:
        """The charge that was given back."""
        return self._text("transaction_id")


class InvalidRequestError(EntitlementError):
    """A field is malformed or out of range. Mend the request."""

    @property
    def field(self) -> str:
        """The first field that is wrong."""
        return self._text("field")


class UnknownFeatureError(EntitlementError):
    """The catalogue has no such feature. `list_features()` lists those there are."""

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
        """The transaction that was named."""
        return self._text("transaction_id")


class RefundExceedsChargeError(EntitlementError):
    """The refund is larger than what remains of the charge."""

    @property
    def remaining(self) -> int:
        """What may still be given back, in tokens."""
        return self._tokens("remaining")

    @property
    def transaction_id(self) -> str:
        """The charge that was named."""
        return self._text("transaction_id")


class BalanceLimitExceededError(EntitlementError):
    """The balance would pass its limit."""

    @property
    def limit(self) -> int:
        """The highest balance, in tokens."""
        return self._tokens("limit")


class CallerRefusedError(EntitlementError):
    """This program showed no or wrong credentials, or its roles do not allow the call."""


class ServiceError(EntitlementError):
    """The call failed although nothing is known to be wrong with it. Nothing is granted.

    Whether a write took effect is unknown. Send it again under the same `idempotency_key`.
    """


class ServiceUnavailableError(ServiceError):
    """The service was not reached, did not answer in time, or cannot do its work just now."""


class RateLimitedError(ServiceError):
    """This program calls too often. Wait for `retry_after_s`. Nothing was charged."""


class UnexpectedServiceError(ServiceError):
    """Something unforeseen. `reference` leads to the whole story in the service's log."""

    @property
    def reference(self) -> str:
        """What to look for in the service's log; may be empty."""
        return self._text("reference")
