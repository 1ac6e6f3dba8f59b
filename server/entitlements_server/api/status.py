"""The one table from errors to codes and reasons, and the status that a caller gets."""

import math

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from entitlements_server.api.errors import (
    NoSuchMethodError,
    PermissionDeniedError,
    RateLimitedError,
    RefusedError,
    RequestMissingError,
    RequestOverdueError,
    TooManyStreamsError,
    UnauthenticatedError,
    UnknownServiceError,
)
from entitlements_server.engine import OverloadedError
from entitlements_server.ledger.errors import (
    BalanceLimitExceededError,
    IdempotencyKeyReusedError,
    InsufficientTokensError,
    InvalidFieldError,
    LedgerError,
    NotRefundableError,
    RefundExceedsChargeError,
    TransactionNotFoundError,
    UnknownFeatureError,
)
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.transport.interface import CallStatus

DOMAIN = "entitlements"
"""The domain of every ErrorInfo."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer in which gRPC carries a google.rpc.Status."""

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailer by which gRPC clients know when to retry."""

CODES: dict[type[Exception], tuple[grpc.StatusCode, str]] = {
    InvalidFieldError: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    UnknownFeatureError: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_FEATURE"),
    TransactionNotFoundError: (grpc.StatusCode.NOT_FOUND, "TRANSACTION_NOT_FOUND"),
    InsufficientTokensError: (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_TOKENS"),
    IdempotencyKeyReusedError: (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED"),
    NotRefundableError: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_REFUNDABLE"),
    RefundExceedsChargeError: (grpc.StatusCode.FAILED_PRECONDITION, "REFUND_EXCEEDS_CHARGE"),
    BalanceLimitExceededError: (grpc.StatusCode.FAILED_PRECONDITION, "BALANCE_LIMIT_EXCEEDED"),
    UnauthenticatedError: (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    PermissionDeniedError: (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    RateLimitedError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    # Of a method that is not in the contract, the contract's reasons say nothing.
    NoSuchMethodError: (grpc.StatusCode.UNIMPLEMENTED, ""),
    UnknownServiceError: (grpc.StatusCode.NOT_FOUND, ""),
    RequestMissingError: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    TooManyStreamsError: (grpc.StatusCode.UNIMPLEMENTED, ""),
    RequestOverdueError: (grpc.StatusCode.UNAVAILABLE, ""),
    OverloadedError: (grpc.StatusCode.UNAVAILABLE, "OVERLOADED"),
    ForeignFormatError: (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    StoreUnavailableError: (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
}
"""Which code and reason each error is answered with. Any other error is INTERNAL."""

_UNFORESEEN = (grpc.StatusCode.INTERNAL, "INTERNAL")


def is_known(error: Exception) -> bool:
    """Tell whether an error has a row in the table."""
    return type(error) in CODES


def status_of(error: Exception, reference: str = "") -> CallStatus:
    """Turn an error into what the caller gets: see `status_message_of`."""
    code, reason = CODES.get(type(error), _UNFORESEEN)
    message = status_message_of(error, reference)
    if not reason:
        return CallStatus(code, message.message)
    trailers: list[tuple[str, str | bytes]] = [(DETAILS_KEY, message.SerializeToString())]
    if isinstance(error, OverloadedError | RateLimitedError):
        trailers.append((PUSHBACK_KEY, str(_delay_ms(error))))
    return CallStatus(code, message.message, tuple(trailers))


def status_message_of(error: Exception, reference: str = "") -> status_pb2.Status:
    """Turn an error into a status with its details, as it stands in a trailer or a batch.

    Args:
        error: Any error. Of one without a row in the table the caller learns nothing.
        reference: Under which the log has the story of such an error.
    """
    code, reason = CODES.get(type(error), _UNFORESEEN)
    message, metadata = _words(error, reference)
    status = status_pb2.Status(code=code.value[0], message=message)
    if not reason:
        return status
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    )
    if isinstance(error, InvalidFieldError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=f"It {error.description}."
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, OverloadedError | RateLimitedError):
        delay = Duration(nanos=0)
        delay.FromMilliseconds(_delay_ms(error))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _delay_ms(error: OverloadedError | RateLimitedError) -> int:
    return math.ceil(error.retry_delay_s * 1000)


def _words(error: Exception, reference: str) -> tuple[str, dict[str, str]]:
    """Return the sentence and the metadata that a caller may see."""
    if isinstance(error, LedgerError | RefusedError):
        return error.message, dict(error.metadata)
    if isinstance(error, OverloadedError):
        return error.message, {}
    if isinstance(error, ForeignFormatError):
        return str(error), {}
    if isinstance(error, StoreUnavailableError):
        return (
            "The ledger cannot be reached, so it is unknown whether the request took effect:"
            " send it again with the same idempotency key."
        ), {}
    return (
        "Something unforeseen happened: send the request again with the same idempotency key, and"
        f" if it goes on, give the reference {reference} to the operator."
    ), {"reference": reference}
