"""What a person at the other end of HTTP is told about an error: problem documents, RFC 9457.

Only what they can act on: no address, no message of the service, nothing about this program.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from entitlements import _errors as errors


class InProgressError(errors.EntitlementError):
    """A request under this idempotency key is being answered right now."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document and how it is sent."""

    status: HTTPStatus
    name: str
    title: str
    detail: str
    more: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the document."""
        return {
            "type": f"urn:entitlements:{self.name}",
            "title": self.title,
            "status": self.status.value,
            "detail": self.detail,
            **self.more,
        }


def of(error: errors.EntitlementError) -> Problem:
    """Tell the problem that an error is to somebody who asked for an analysis."""
    return next(make(error) for kind, make in _PROBLEMS if isinstance(error, kind))


def _denied(error: Any) -> Problem:
    return Problem(
        HTTPStatus.PAYMENT_REQUIRED,
        "insufficient-tokens",
        "Not enough tokens",
        f"This analysis costs {error.required} tokens and {error.available} are available. "
        "Nothing was charged. Top up and ask again; the same Idempotency-Key may be used.",
        {
            "required": error.required,
            "available": error.available,
            "feature": error.feature,
            "transaction_id": error.transaction_id,
        },
    )


def _refunded(_: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "charge-refunded",
        "The tokens were given back",
        "The analysis that was asked for under this Idempotency-Key failed, and its tokens were "
        "given back. Ask again with a new Idempotency-Key.",
    )


def _in_progress(_: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "request-in-progress",
        "The request is in progress",
        "A request with this Idempotency-Key is being answered right now. Wait for its answer, "
        "or ask again after it.",
    )


def _reused(error: Any) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The Idempotency-Key belongs to another request",
        "This Idempotency-Key was used for something else before. Use a new one.",
        {"field": error.field},
    )


def _invalid(error: Any) -> Problem:
    return Problem(
        HTTPStatus.BAD_REQUEST,
        "invalid-field",
        "A value is not valid",
        "Ids and the Idempotency-Key are printable text without spaces; ids have at most 128 "
        "bytes, the key at most 255.",
        {"field": error.field},
    )


def _unavailable(error: Any) -> Problem:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    more = {}
    detail = "Whether this analysis may be opened cannot be found out now, so it stays closed."
    if error.idempotency_key:
        # Whether it was charged is unknown. Under this key it will have been charged once.
        more["idempotency_key"] = error.idempotency_key
        detail += " Ask again with this Idempotency-Key: you will be charged once."
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "service-unavailable",
        "The entitlement service cannot be asked",
        detail,
        more,
        headers,
    )


def _ours(_: Any) -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "This analysis cannot be opened",
        "The mistake is on this side and has been noted. Nothing was granted.",
    )


# In this order: the first that fits. Missing credentials of this program are no fault of who
# asks, and to them no different from a service that is down.
_PROBLEMS: tuple[tuple[type[errors.EntitlementError], Callable[[Any], Problem]], ...] = (
    (errors.AccessDeniedError, _denied),
    (errors.ChargeRefundedError, _refunded),
    (errors.IdempotencyKeyReusedError, _reused),
    (errors.InvalidRequestError, _invalid),
    (errors.ServiceError, _unavailable),
    (errors.CallerRefusedError, _unavailable),
    (InProgressError, _in_progress),
    (errors.EntitlementError, _ours),
)
