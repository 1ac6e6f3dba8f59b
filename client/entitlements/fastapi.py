"""The gate for FastAPI: an endpoint that costs tokens, in one line.

    gate = Gate(client, user_id=current_user)
    install(app)

    @app.get("/events/{event_id}/distribution")
    async def distribution(paid: Annotated[Transaction, gate("full_distribution", event_id=of_path)]):
        ...

Who calls is charged before the endpoint runs. A denial is answered with 402, a service that cannot
be asked with 503, both as `application/problem+json` (RFC 9457), and the endpoint does not run. An
endpoint that raises, whatever it raises, costs nothing.
"""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from entitlements._async import AsyncEntitlementClient
from entitlements._calls import new_key
from entitlements._errors import EntitlementError
from entitlements._problem_details import InProgressError, of
from entitlements._values import Transaction

try:
    from fastapi import Depends, FastAPI, Header, Request
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "entitlements.fastapi needs FastAPI: pip install 'entitlements[fastapi]'", name=missing.name
    ) from None

__all__ = ["Gate", "install"]


_SERVER_ERROR = 500
_log = logging.getLogger("entitlements")


def _no_event() -> str:
    return ""


class Gate:
    """Makes dependencies that charge for a feature.

    The header `Idempotency-Key` makes a retry of the HTTP request free: one key is one charge
    for one user, feature and event. A key stays paid for as long as the ledger has its charge,
    so name the event wherever there is one; with another event the key counts as reused. Two
    requests under one key at the same time: the second is answered with 409 by the process that
    is busy with the first.

    Args:
        client: Asks the service. You close it, for instance in the lifespan of the app.
        user_id: A dependency, as FastAPI understands it, that tells who pays. It must have
            authenticated the user: the gate believes it.
        event_id: A dependency that tells which event is analysed. Default: none.
    """

    def __init__(
        self,
        client: AsyncEntitlementClient,
        *,
        user_id: Callable[..., Any],
        event_id: Callable[..., Any] = _no_event,
    ) -> None:
        self._client = client
        self._user_id = user_id
        self._event_id = event_id
        # Bounded by the requests that the web server has in flight.
        self._busy: set[tuple[str, str]] = set()

    def __call__(self, feature: str, *, event_id: Callable[..., Any] | None = None) -> Any:
        """Make the dependency for one feature.

        Args:
            feature: What is charged for.
            event_id: As for the gate, for this endpoint alone. What this dependency depends on
                is checked before the charge: put the validation of parameters there, and bad
                requests are refused without charge and refund.

        Returns:
            What stands in `dependencies=[...]` or `Annotated[Transaction, ...]`.
        """
        user = Depends(self._user_id)
        event = Depends(event_id or self._event_id)

        async def require(
            user_id: Annotated[str, user],
            event_id: Annotated[str, event],
            idempotency_key: Annotated[
                str | None,
                Header(
                    max_length=255,
                    description="Makes a retry of this request free. Use a new one each time "
                    "you want a new analysis.",
                ),
            ] = None,
        ) -> AsyncIterator[Transaction]:
            # Without a header the key is one that nobody else has.
            key = idempotency_key or new_key()
            if (user_id, key) in self._busy:
                raise InProgressError("A request with this idempotency key is in progress.")
            self._busy.add((user_id, key))
            try:
                async with self._client.require_tokens(
                    user_id=user_id,
                    feature=feature,
                    event_id=event_id,
                    idempotency_key=idempotency_key,
                ) as paid:
                    yield paid
            finally:
                self._busy.discard((user_id, key))

        # Scope "function": it ends when the endpoint has returned and before the response is
        # sent. What is raised later, as by a background task, is no reason for a refund.
        return Depends(require, scope="function")


def install(app: FastAPI) -> None:
    """Let `app` answer what the gate raises with problem documents instead of status 500."""
    app.add_exception_handler(EntitlementError, _answer)


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EntitlementError)
    problem = of(error)
    if problem.status >= _SERVER_ERROR:
        # The answer does not say what happened; whoever runs this has to learn it.
        _log.error("Nothing was granted: %s: %s", type(error).__name__, error)
    return JSONResponse(
        problem.body,
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )
