"""The API: five endpoints, each gated by one feature in one line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse

from analytics_api import analyses
from analytics_api.events import EVENTS, Event
from analytics_api.model import AnalysisError
from entitlements import AsyncEntitlementClient, FeatureTier
from entitlements.fastapi import Gate, install

_MAX_EVENTS = 5


def current_user(
    x_user_id: Annotated[str, Header(description="The user. A real API authenticates.")],
) -> str:
    """Return the user to charge."""
    return x_user_id


def known_event(event_id: str) -> Event:
    """Find the event of the path. The gate depends on it, so a wrong id is not charged."""
    if event_id not in EVENTS:
        raise HTTPException(404, f"There is no event {event_id!r}. GET /events lists them.")
    return EVENTS[event_id]


def known_events(
    event_id: Annotated[list[str], Query(min_length=2, max_length=_MAX_EVENTS)],
) -> list[Event]:
    """Find the events of the query, each once and in a fixed order."""
    found = [known_event(each) for each in sorted(set(event_id))]
    if len(found) == 1:
        raise HTTPException(422, "A comparison needs two different events.")
    return found


OneEvent = Annotated[Event, Depends(known_event)]
Events = Annotated[list[Event], Depends(known_events)]


def one_event(event: OneEvent) -> str:
    """Return the event to charge for."""
    return event.event_id


def all_events(events: Events) -> str:
    """Return the comparison to charge for. It is one analysis, so its events make one id."""
    return "+".join(event.event_id for event in events)


def create_app(client: AsyncEntitlementClient) -> FastAPI:
    """Build the API on a client, which is closed when the API stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(title="Analytics, by depth", lifespan=lifespan)
    install(app)
    app.add_exception_handler(AnalysisError, _analysis_failed)
    gate = Gate(client, user_id=current_user, event_id=one_event)

    @app.get("/events")
    def events() -> dict[str, str]:
        """List the events."""
        return {event.event_id: event.title for event in EVENTS.values()}

    @app.get("/tokens")
    async def tokens(user_id: Annotated[str, Depends(current_user)]) -> dict[str, Any]:
        """Return the balance, and the features that it covers."""
        account = await client.get_account(user_id)
        access = await client.batch_check_access(user_id)
        return {
            "balance": account.balance,
            "open": [each.feature for each in access if each.allowed],
        }

    # The endpoints are plain functions. FastAPI runs them in threads, so that the arithmetic of
    # one request does not delay the others.
    @app.get("/events/{event_id}/headline", dependencies=[gate(FeatureTier.HEADLINE_PICK)])
    def headline(event: OneEvent) -> dict[str, Any]:
        return analyses.headline(event)

    @app.get("/events/{event_id}/distribution", dependencies=[gate(FeatureTier.FULL_DISTRIBUTION)])
    def distribution(event: OneEvent) -> dict[str, Any]:
        return analyses.full_distribution(event)

    @app.get("/events/{event_id}/extremes", dependencies=[gate(FeatureTier.SCENARIO_EXTREMES)])
    def extremes(event: OneEvent) -> dict[str, Any]:
        return analyses.scenario_extremes(event)

    @app.get(
        "/comparison",
        dependencies=[gate(FeatureTier.COMPARATIVE_ANALYSIS, event_id=all_events)],
    )
    def comparison(events: Events) -> dict[str, Any]:
        return analyses.comparative_analysis(events)

    @app.get("/events/{event_id}/deep-dive", dependencies=[gate(FeatureTier.DEEP_DIVE_EDUCATIONAL)])
    def deep_dive(event: OneEvent) -> dict[str, Any]:
        return analyses.deep_dive_educational(event)

    return app


async def _analysis_failed(_: Request, error: Exception) -> JSONResponse:
    problem = {
        "type": "urn:analytics:analysis-failed",
        "title": "The analysis failed",
        "status": 500,
        "detail": f"{error} An analysis that fails costs nothing.",
    }
    return JSONResponse(problem, status_code=500, media_type="application/problem+json")
