"""What the OpenAPI document of an application says about its gated endpoints."""

from collections.abc import Iterator, Mapping
from typing import Any

from entitlements import _errors as errors
from entitlements import _problem_details as problems
from entitlements._charge_headers import ACCESS_UNTIL, CHARGED, LEFT

PROBLEM_JSON = "application/problem+json"

_SCHEMA = "EntitlementsProblem"
_EXAMPLES: tuple[tuple[errors.EntitlementError, str], ...] = (
    (errors.InvalidRequestError(metadata={"field": "user_id"}), "A value is not valid."),
    (
        errors.AccessDeniedError(
            metadata={
                "feature": "full_distribution",
                "required": "2",
                "available": "1",
                "transaction_id": "3-9c1e5b07d2f84a63b7e0",
            }
        ),
        "The available tokens do not cover the cost. Nothing was charged.",
    ),
    (
        errors.ChargeRefundedError(),
        "The key's charge gives no access any more or is in progress, or the price has changed.",
    ),
    (
        errors.AccessEndedError(
            metadata={"access_until": "2026-01-31T12:00:00+00:00"},
        ),
        "",
    ),
    (
        errors.PriceChangedError(
            metadata={"feature": "full_distribution", "max_cost": "2", "cost": "3"}
        ),
        "",
    ),
    (problems.InProgressError(), ""),
    (
        errors.IdempotencyKeyReusedError(metadata={"field": "event_id"}),
        "The Idempotency-Key belongs to another request.",
    ),
    (
        errors.ServiceUnavailableError(idempotency_key="k-1", retry_after_s=1),
        "Access cannot be checked at the moment. Nothing is shown; ask again with the same key.",
    ),
)


def describe(operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Add the answers of a gate to an operation of an OpenAPI document.

    What is there already, by the application or FastAPI, stays.

    Args:
        operation: The operation.
        components: The components of the document.
    """
    components.setdefault("schemas", {}).setdefault(_SCHEMA, _schema())
    responses = operation.setdefault("responses", {})
    for status, response in responses.items():
        if str(status).startswith("2"):
            response.setdefault("headers", {}).update(_charge_headers())
    for error, description in _EXAMPLES:
        problem = problems.of(error)
        response = responses.setdefault(str(problem.status.value), {"description": description})
        content = response.setdefault("content", {}).setdefault(
            PROBLEM_JSON, {"schema": {"$ref": f"#/components/schemas/{_SCHEMA}"}}
        )
        content.setdefault("examples", {})[problem.name] = {"value": problem.body}
        for name in problem.headers:
            response.setdefault("headers", {})[name] = {
                "description": "Seconds to wait, if the service says so.",
                "schema": {"type": "integer"},
            }
    operation["responses"] = dict(sorted(responses.items()))


def _charge_headers() -> dict[str, Any]:
    return {
        CHARGED: {
            "description": "Tokens that this request was charged. 0: free, or paid before.",
            "schema": {"type": "integer"},
        },
        ACCESS_UNTIL: {
            "description": "Until when the same event costs nothing. Absent: every use is charged.",
            "schema": {"type": "string", "format": "date-time"},
        },
        LEFT: {
            "description": "Tokens left after the charge. Absent if it was made before.",
            "schema": {"type": "integer"},
        },
    }


def _schema() -> dict[str, Any]:
    members: Mapping[str, Any] = dict(_members())
    return {
        "title": "Problem",
        "description": "A problem document (RFC 9457).",
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": members,
    }


def _members() -> Iterator[tuple[str, dict[str, str]]]:
    """Return every member that a problem may have, with its type, from the problems themselves."""
    for error, _ in _EXAMPLES:
        for name, value in problems.of(error).body.items():
            yield name, {"type": "integer" if isinstance(value, int) else "string"}
