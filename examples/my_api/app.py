"""An API with a paid endpoint: the one that docs/testing.md tests."""

import os
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from entitlements import AsyncEntitlementClient, Transaction
from entitlements.fastapi import Gate, install

EVENTS = {"final": (0.2, 0.5, 0.8), "semifinal": (0.1, 0.4, 0.6)}


async def current_user(x_user_id: Annotated[str, Header()]) -> str:
    """Return the user to charge. A real API authenticates."""
    return x_user_id


async def known_event(event_id: str) -> str:
    """Return the event to charge for. An unknown one is not charged."""
    if event_id not in EVENTS:
        raise HTTPException(404, "There is no such event.")
    return event_id


client = AsyncEntitlementClient(os.environ.get("ENTITLEMENTS_ADDRESS", "127.0.0.1:50051"))
gate = Gate(client, user_id=current_user, event_id=known_event)
app = FastAPI(title="Analyses of events")
install(app)


@app.get("/events/{event_id}/headline", dependencies=[gate("headline_pick")])
async def headline(event_id: str) -> float:
    """Return the middle of the distribution. It is free."""
    return EVENTS[event_id][1]


@app.get("/events/{event_id}/distribution")
async def distribution(
    event: Annotated[str, Depends(known_event)],
    paid: Annotated[Transaction, gate("full_distribution")],
    percentile: int = 50,
) -> dict[str, float]:
    """Return a percentile of the distribution, and the tokens that are left."""
    low, middle, high = EVENTS[event]
    known = {10: low, 50: middle, 90: high}
    if percentile not in known:
        raise HTTPException(422, "There are the percentiles 10, 50 and 90.")
    return {"value": known[percentile], "tokens_left": paid.balance_after}
