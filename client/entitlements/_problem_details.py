"""The problem documents (RFC 9457) that HTTP clients receive for an error.

They contain only what the user can act on: no address, no message of the service, nothing about
this program.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from entitlements import _errors as errors

MAX_COST = "Entitlements-Max-Cost"
"""The request header with the highest cost to accept, in tokens."""


class InProgressError(errors.EntitlementError):
    """Another request with this idempotency key, or the one that pays for the event, is in progress."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document, with its status and headers."""

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
    """Make the problem document of an error, for the user who asked for an analysis."""
    return next(make(error) for kind, make in _PROBLEMS if isinstance(error, kind))


def _denied(error: Any) -> Problem:
    # Without it, the attempt was one of too many to be recorded.
    recorded = {"transaction_id": error.transaction_id} if error.transaction_id else {}
    return Problem(
        HTTPStatus.PAYMENT_REQUIRED,
        "insufficient-tokens",
        "Not enough tokens",
        f"This analysis costs {error.required} tokens and {error.available} are available. "
        "Nothing was charged. Top up and ask again. The same Idempotency-Key may be used.",
        {
            "required": error.required,
            "available": error.available,
            "feature": error.feature,
            **recorded,
        },
    )


def _price_changed(error: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "price-changed",
        "The price has changed",
        f"This analysis costs {error.cost} tokens now, more than the {error.max_cost} that the "
        f"request accepts. Nothing was charged. Ask again with {MAX_COST}: {error.cost}, or without it.",
        {"cost": error.cost, "max_cost": error.max_cost, "feature": error.feature},
    )


def _refunded(_: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "charge-refunded",
        "The tokens were refunded",
        "The analysis for this Idempotency-Key failed and its tokens were refunded. Ask again "
        "with a new Idempotency-Key.",
    )


def _ended(error: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "access-ended",
        "The access has ended",
        "The access that was paid for with this Idempotency-Key has ended. Ask again with a new "
        "Idempotency-Key, which is charged.",
        {"access_until": error.access_until.isoformat().replace("+00:00", "Z")},
    )


def _in_progress(_: Any) -> Problem:
    return Problem(
        HTTPStatus.CONFLICT,
        "request-in-progress",
        "The request is in progress",
        "Another request with this Idempotency-Key, or the one that pays for this event, is in "
        "progress. Wait for its response, or ask again after it.",
    )


def _reused(error: Any) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "The Idempotency-Key belongs to another request",
        "This Idempotency-Key was used for another request. Use a new one.",
        {"field": error.field},
    )


def _invalid(error: Any) -> Problem:
    return Problem(
        HTTPStatus.BAD_REQUEST,
        "invalid-field",
        "A value is not valid",
        "Ids and the Idempotency-Key are text without spaces or invisible characters. Ids have at "
        "most 128 bytes, the key at most 255.",
        {"field": error.field},
    )


def _unavailable(error: Any) -> Problem:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    more = {}
    detail = "Your access to this analysis cannot be checked at the moment, so it is not shown."
    if error.idempotency_key:
        # It is not known whether the user was charged. A retry with this key charges once.
        more["idempotency_key"] = error.idempotency_key
        detail += " Ask again with this Idempotency-Key. You will be charged once."
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "service-unavailable",
        "The entitlement service is not available",
        detail,
        more,
        headers,
    )


def _ours(_: Any) -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "This analysis is not available",
        "The error is on our side and was logged. Nothing was granted.",
    )


# The first match counts. If this program lacks credentials, that is not the user's fault, and to the
# user it is the same as a service that is down.
_PROBLEMS: tuple[tuple[type[errors.EntitlementError], Callable[[Any], Problem]], ...] = (
    (errors.AccessDeniedError, _denied),
    (errors.ChargeRefundedError, _refunded),
    (errors.AccessEndedError, _ended),
    (errors.PriceChangedError, _price_changed),
    (errors.IdempotencyKeyReusedError, _reused),
    (errors.InvalidRequestError, _invalid),
    (errors.ServiceError, _unavailable),
    (errors.CallerRefusedError, _unavailable),
    (InProgressError, _in_progress),
    (errors.EntitlementError, _ours),
)
