"""From a failed call to an error of the client. Status details are read here only."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from entitlements import _errors as errors

_DOMAIN = "entitlements"
_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in StatusCode}

_BY_REASON: Mapping[str, type[errors.EntitlementError]] = MappingProxyType(
    {
        "INVALID_FIELD": errors.InvalidRequestError,
        "UNKNOWN_FEATURE": errors.UnknownFeatureError,
        "TRANSACTION_NOT_FOUND": errors.TransactionNotFoundError,
        "INSUFFICIENT_TOKENS": errors.AccessDeniedError,
        "IDEMPOTENCY_KEY_REUSED": errors.IdempotencyKeyReusedError,
        "NOT_REFUNDABLE": errors.NotRefundableError,
        "REFUND_EXCEEDS_CHARGE": errors.RefundExceedsChargeError,
        "BALANCE_LIMIT_EXCEEDED": errors.BalanceLimitExceededError,
        "PRICE_CHANGED": errors.PriceChangedError,
        "TOO_MANY_GRANTS": errors.TooManyGrantsError,
        "UNAUTHENTICATED": errors.CallerRefusedError,
        "PERMISSION_DENIED": errors.CallerRefusedError,
        "RATE_LIMITED": errors.RateLimitedError,
        "OVERLOADED": errors.ServiceUnavailableError,
        "STORE_UNAVAILABLE": errors.ServiceUnavailableError,
        "INTERNAL": errors.UnexpectedServiceError,
        "RECORD_DAMAGED": errors.UnexpectedServiceError,
    }
)

# Errors that come from gRPC itself, or from a proxy in front of the service.
_BY_CODE: Mapping[StatusCode, tuple[type[errors.EntitlementError], str]] = MappingProxyType(
    {
        StatusCode.UNAVAILABLE: (
            errors.ServiceUnavailableError,
            "The entitlement service cannot be reached",
        ),
        StatusCode.DEADLINE_EXCEEDED: (
            errors.ServiceUnavailableError,
            "The entitlement service did not answer in time",
        ),
        StatusCode.CANCELLED: (
            errors.ServiceUnavailableError,
            "The call to the entitlement service was cancelled",
        ),
        StatusCode.UNAUTHENTICATED: (
            errors.CallerRefusedError,
            "The credentials of this program were not accepted",
        ),
        StatusCode.PERMISSION_DENIED: (
            errors.CallerRefusedError,
            "This program is not allowed to make the call",
        ),
    }
)
_UNFORESEEN = (errors.UnexpectedServiceError, "The entitlement service failed")


def from_call(
    code: StatusCode | None,
    message: str | None,
    trailing_metadata: Iterable[Any] | None,
    idempotency_key: str = "",
) -> errors.EntitlementError:
    """Translate a failed call.

    Args:
        code: The status code.
        message: The status message.
        trailing_metadata: The trailers, pairs of key and value. They may have the status details.
        idempotency_key: The key of a write.

    Returns:
        The error to raise. If details are absent or unreadable, the code decides.
    """
    status = Status(message=message or "")
    for key, value in trailing_metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status.details.extend(Status.FromString(value).details)
            except DecodeError:
                break
    return _translate(code or StatusCode.UNKNOWN, status, idempotency_key)


def from_status(status: Status, idempotency_key: str = "") -> errors.EntitlementError:
    """Translate the status of one request of a batch."""
    return _translate(_CODES.get(status.code, StatusCode.UNKNOWN), status, idempotency_key)


def _translate(code: StatusCode, status: Status, key: str) -> errors.EntitlementError:
    info = ErrorInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(ErrorInfo.DESCRIPTOR):
            found = ErrorInfo()
            detail.Unpack(found)
            info = found if found.domain == _DOMAIN else info
        elif detail.Is(RetryInfo.DESCRIPTOR):
            retry = RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    kind = _BY_REASON.get(info.reason)
    message = status.message
    if kind is None:
        kind, summary = _BY_CODE.get(code, _UNFORESEEN)
        # gRPC's message gives the cause and is rarely a sentence.
        message = f"{summary} ({code.name}: {message or 'no details'}). Nothing was granted."
    return kind(
        message,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        idempotency_key=key,
        retry_after_s=retry_after_s,
    )
