"""The gate for FastAPI: charge for an endpoint with one line.

    gate = Gate(client, user_id=current_user)
    install(app)

    @app.get("/events/{event_id}/distribution")
    async def distribution(paid: Annotated[Transaction, gate("full_distribution", event_id=of_path)]):
        ...

The user is charged before the endpoint runs. If the available tokens do not cover the cost the response is
402, and if the service is not available 503, both as `application/problem+json` (RFC 9457), and the
endpoint does not run. An endpoint that raises any exception costs nothing.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Annotated, Any
from weakref import WeakSet

from entitlements._async import AsyncEntitlementClient
from entitlements._calls import new_key
from entitlements._charge_headers import ChargeHeaders, noted
from entitlements._errors import EntitlementError
from entitlements._openapi import PROBLEM_JSON, describe
from entitlements._problem_details import MAX_COST, InProgressError, of
from entitlements._values import Transaction

try:
    from fastapi import Depends, FastAPI, Header, Request
    from fastapi.dependencies.models import Dependant
    from fastapi.responses import JSONResponse
    from fastapi.routing import APIRoute
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "entitlements.fastapi needs FastAPI. Install entitlements with the extra 'fastapi'.",
        name=missing.name,
    ) from None

__all__ = ["Gate", "install"]


_SERVER_ERROR = 500
_log = logging.getLogger("entitlements")

_gates: WeakSet[Callable[..., Any]] = WeakSet()
"""The dependencies that gates have made, to know gated endpoints by."""


def _no_event() -> str:
    return ""


class Gate:
    """Makes dependencies that charge for a feature.

    The header `Idempotency-Key` makes a retry of the HTTP request free: one key is one charge for
    one user, feature and event. A key stays paid as long as the ledger has its charge, so give the
    event wherever there is one: then the same key with another event counts as reused. If two
    requests with one key reach the same process at the same time, the second gets 409.

    If the feature gives access for a time, a request for the same event costs nothing until then, whatever
    its key. One that would be covered by a charge whose own request is in progress gets 409: if that
    fails, its charge is refunded.

    The header `Entitlements-Max-Cost` is the highest cost that the request accepts: if the feature costs
    more by now, the response is 409 and nothing is charged.

    Args:
        client: The client of the service. You close it, for example in the lifespan of the app.
        user_id: A FastAPI dependency that returns the user to charge. It must have authenticated
            the user: the gate trusts it.
        event_id: A FastAPI dependency that returns the analysed event. Default: none.
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
        self._dependencies: dict[tuple[str, Callable[..., Any]], Callable[..., Any]] = {}
        # Bounded by the requests that the web server has in flight.
        self._busy: set[tuple[str, ...]] = set()

    def __call__(self, feature: str, *, event_id: Callable[..., Any] | None = None) -> Any:
        """Make the dependency for one feature.

        Args:
            feature: The feature to charge for.
            event_id: As for the gate, for this endpoint only. Everything that this dependency
                depends on is checked before the charge. Put the validation of parameters there,
                so that bad requests are rejected without a charge and a refund.

        Returns:
            The dependency, for `dependencies=[...]` or `Annotated[Transaction, ...]`.
        """
        # Scope "function": the dependency ends when the endpoint has returned, before the response
        # is sent. Later exceptions, as of a background task, do not cause a refund.
        return Depends(self.dependency(feature, event_id=event_id), scope="function")

    async def client(self) -> AsyncEntitlementClient:
        """Return the client, as a dependency: every dependency of this gate depends on it.

        A test gives the gate the client of another service with
        `app.dependency_overrides[gate.client] = …`.
        """
        return self._client

    def dependency(
        self, feature: str, *, event_id: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """Return what `gate(feature)` depends on: the same function for the same arguments.

        So it is a key of `app.dependency_overrides`, for a test that needs no service at all.

        Args:
            feature: As for `gate(feature)`.
            event_id: As for `gate(feature)`.
        """
        event = event_id or self._event_id
        made = self._dependencies.get((feature, event))
        if made is None:
            made = self._dependencies[feature, event] = self._make(feature, event)
        return made

    def _make(self, feature: str, event_dependency: Callable[..., Any]) -> Callable[..., Any]:
        user = Depends(self._user_id)
        event = Depends(event_dependency)
        client_of_gate = Depends(self.client)

        async def require(
            *,
            request: Request,
            client: Annotated[AsyncEntitlementClient, client_of_gate],
            user_id: Annotated[str, user],
            event_id: Annotated[str, event],
            idempotency_key: Annotated[
                str | None,
                Header(
                    max_length=255,
                    description="Makes a retry of this request free. Use a new key for each new "
                    "analysis.",
                ),
            ] = None,
            max_cost: Annotated[
                int | None,
                Header(
                    alias=MAX_COST,
                    ge=0,
                    le=10**12,
                    description="Highest cost to accept, in tokens. If the price is higher by now, "
                    "nothing is charged.",
                ),
            ] = None,
        ) -> AsyncIterator[Transaction]:
            _require_installed(request.app)
            # Without the header, a key that is unique.
            key = idempotency_key or new_key()
            own_key = bool(idempotency_key)
            with ExitStack() as alone:
                # Left last, after a refund.
                alone.enter_context(self._alone(user_id, key))
                async with client.require_tokens(
                    user_id=user_id,
                    feature=feature,
                    event_id=event_id,
                    idempotency_key=idempotency_key,
                    max_cost=max_cost,
                ) as paid:
                    alone.enter_context(self._window_alone(paid, own_key=own_key))
                    with noted(request.scope, paid, own_key=own_key):
                        yield paid

        _gates.add(require)
        return require

    @contextmanager
    def _alone(self, *names: str) -> Iterator[None]:
        """Keep other requests of these names out of this process while the block runs."""
        if names in self._busy:
            raise InProgressError("A request that shares a charge with this one is in progress.")
        self._busy.add(names)
        try:
            yield
        finally:
            self._busy.discard(names)

    def _window_alone(self, paid: Transaction, *, own_key: bool) -> AbstractContextManager[None]:
        """Keep requests that the charge covers out while the request that made it may still fail."""
        if paid.access_until is None:
            return nullcontext()
        window = (paid.user_id, paid.feature, paid.event_id)
        if not paid.covered and not (own_key and paid.replayed):
            return self._alone(*window)
        if window in self._busy:
            raise InProgressError("The request that pays for this event is in progress.")
        return nullcontext()


def install(app: FastAPI) -> None:
    """Make `app` respond to the errors of the gate with problem documents instead of status 500.

    Responses of gated endpoints get the headers `Entitlements-Charged` and `Entitlements-Left`, and the
    OpenAPI document of `app` lists their problem documents and headers.

    Args:
        app: The application, before it serves.
    """
    app.add_exception_handler(EntitlementError, _answer)
    app.add_middleware(ChargeHeaders)
    make_document = app.openapi

    def openapi() -> dict[str, Any]:
        new = app.openapi_schema is None
        document = make_document()
        if new:
            _describe_gated(app, document)
        return document

    # As FastAPI's documentation says to extend it.
    app.openapi = openapi  # type: ignore[method-assign]


def _require_installed(app: FastAPI) -> None:
    """Fail before the charge where a denial would be status 500: at the first request, not at the first denial."""
    kinds = [one for one in app.exception_handlers if isinstance(one, type)]
    if not any(
        issubclass(EntitlementError, one) or issubclass(one, EntitlementError) for one in kinds
    ):
        raise RuntimeError(
            "This app does not handle the errors of the gate: call entitlements.fastapi.install(app)"
            " once, where the app is made. Nothing was charged."
        )


def _describe_gated(app: FastAPI, document: dict[str, Any]) -> None:
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema and _is_gated(route.dependant):
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                describe(operation, document.setdefault("components", {}))


def _is_gated(dependant: Dependant) -> bool:
    return dependant.call in _gates or any(map(_is_gated, dependant.dependencies))


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EntitlementError)
    problem = of(error)
    if problem.status >= _SERVER_ERROR:
        # The response does not say what happened, so the log has to.
        _log.error("Nothing was granted: %s: %s", type(error).__name__, error)
    return JSONResponse(
        problem.body,
        status_code=problem.status,
        headers=problem.headers,
        media_type=PROBLEM_JSON,
    )
