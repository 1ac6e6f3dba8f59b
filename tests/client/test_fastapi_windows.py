"""The gate for FastAPI where one charge gives access to an event for a time, and where prices change."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, HTTPException

from entitlements import AsyncEntitlementClient, Transaction
from entitlements._calls import Call
from entitlements.fastapi import Gate, install
from entitlements.testing import LocalService

FULL = "full_distribution"  # 2 tokens
WINDOW = timedelta(hours=48)


@pytest.fixture
def local() -> Iterator[LocalService]:
    with LocalService(balances={"ada": 9}, access={FULL: WINDOW}) as service:
        yield service


class Work:
    """How long the work of an endpoint takes, and how it ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
async def http(local: LocalService, work: Work) -> AsyncIterator[httpx.AsyncClient]:
    async def user(x_user: Annotated[str, Header()] = "ada") -> str:
        return x_user

    async def event_of_path(event: str) -> str:
        return event

    app = FastAPI()
    install(app)
    async with local.async_client() as client:
        gate = Gate(client, user_id=user, event_id=event_of_path)

        @app.get("/events/{event}")
        async def full(paid: Annotated[Transaction, gate(FULL)]) -> bool:
            return paid.covered

        @app.get("/events/{event}/both", dependencies=[gate(FULL), gate("scenario_extremes")])
        async def both() -> None: ...

        @app.get("/events/{event}/fails-late", dependencies=[gate(FULL)])
        async def fails_late() -> None:
            work.begun.set()
            await work.end.wait()
            raise HTTPException(418)

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            yield http


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    return body


def headers(response: httpx.Response) -> tuple[str | None, str | None, str | None]:
    found = response.headers.get
    return (
        found("entitlements-charged"),
        found("entitlements-left"),
        found("entitlements-access-until"),
    )


async def test_an_event_costs_once_and_the_headers_say_until_when(
    http: httpx.AsyncClient, local: LocalService
) -> None:
    """With any key, or none."""
    first = await http.get("/events/final")
    (charge,) = local.client.list_transactions("ada", feature=FULL)
    assert charge.access_until is not None
    until = headers(first)[2]
    assert until is not None
    assert until.endswith("Z")
    assert datetime.fromisoformat(until) == charge.access_until
    assert headers(first) == ("2", "7", until)
    for key in ({}, {"Idempotency-Key": "k"}):
        again = await http.get("/events/final", headers=key)
        assert (again.json(), headers(again)) == (True, ("0", None, until))
    assert headers(await http.get("/events/semifinal"))[0] == "2"
    assert local.balance("ada") == 5


async def test_two_gates_tell_the_sum_and_the_first_end(http: httpx.AsyncClient) -> None:
    """Only one of them has an end."""
    charged, left, until = headers(await http.get("/events/final/both"))
    assert (charged, left) == ("5", "4")
    assert until is not None
    assert headers(await http.get("/events/final/both")) == ("3", "1", until)


async def test_the_key_of_access_that_has_ended_is_409(
    http: httpx.AsyncClient, local: LocalService
) -> None:
    """On day 90 there is no analysis for the key of day 1."""
    key = {"Idempotency-Key": "k"}
    until = headers(await http.get("/events/final", headers=key))[2]
    local.clock.advance(timedelta(days=90))
    ended = await http.get("/events/final", headers=key)
    assert ended.status_code == 409
    assert problem(ended)["type"] == "urn:entitlements:access-ended"
    assert problem(ended)["access_until"] == until
    assert headers(ended) == (None, None, None)
    assert headers(await http.get("/events/final"))[0] == "2"


async def test_what_a_charge_covers_waits_for_the_request_that_may_refund_it(
    http: httpx.AsyncClient, local: LocalService, work: Work
) -> None:
    """Served meanwhile, it would have been served for nothing."""
    first = asyncio.create_task(http.get("/events/final/fails-late"))
    async with asyncio.timeout(30):
        await work.begun.wait()
    second = await http.get("/events/final")
    assert second.status_code == 409
    assert problem(second)["type"] == "urn:entitlements:request-in-progress"
    other = await http.get("/events/semifinal")
    assert other.status_code == 200
    work.end.set()
    assert (await first).status_code == 418
    assert local.balance("ada") == 7
    assert headers(await http.get("/events/final"))[0] == "2"


async def test_it_waits_for_the_refund_itself(
    http: httpx.AsyncClient, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that is recorded, the charge still covers the event."""
    run: Any = AsyncEntitlementClient._run
    refunding, refund = asyncio.Event(), asyncio.Event()

    async def run_late(client: AsyncEntitlementClient, call: Call[Any]) -> Any:
        if call.method == "Refund":
            refunding.set()
            await refund.wait()
        return await run(client, call)

    monkeypatch.setattr(AsyncEntitlementClient, "_run", run_late)
    work.end.set()
    first = asyncio.create_task(http.get("/events/final/fails-late"))
    async with asyncio.timeout(30):
        await refunding.wait()
    meanwhile = await http.get("/events/final")
    refund.set()
    assert meanwhile.status_code == 409
    assert (await first).status_code == 418
    assert headers(await http.get("/events/final"))[0] == "2"


async def test_requests_for_an_event_that_was_paid_for_do_not_wait_for_each_other(
    http: httpx.AsyncClient, local: LocalService, work: Work
) -> None:
    """And what fails of them refunds nothing."""
    await http.get("/events/final")
    slow = asyncio.create_task(http.get("/events/final/fails-late"))
    async with asyncio.timeout(30):
        await work.begun.wait()
    assert (await http.get("/events/final")).json() is True
    work.end.set()
    assert (await slow).status_code == 418
    assert local.balance("ada") == 7


async def test_a_price_above_the_accepted_one_is_409_and_charges_nothing(
    http: httpx.AsyncClient, local: LocalService
) -> None:
    dear = await http.get("/events/final", headers={"Entitlements-Max-Cost": "1"})
    assert dear.status_code == 409
    body = problem(dear)
    assert (body["type"], body["cost"], body["max_cost"], body["feature"]) == (
        "urn:entitlements:price-changed",
        2,
        1,
        FULL,
    )
    assert local.balance("ada") == 9
    fair = await http.get("/events/final", headers={"Entitlements-Max-Cost": "2"})
    assert headers(fair)[0] == "2"
    wrong = await http.get("/events/final", headers={"Entitlements-Max-Cost": "-1"})
    assert wrong.status_code == 422


async def test_the_openapi_document_has_the_headers_and_the_problems(
    http: httpx.AsyncClient,
) -> None:
    document = (await http.get("/openapi.json")).json()
    operation = document["paths"]["/events/{event}"]["get"]
    assert "Entitlements-Max-Cost" in {each["name"] for each in operation["parameters"]}
    responses = operation["responses"]
    assert "Entitlements-Access-Until" in responses["200"]["headers"]
    conflict = responses["409"]["content"]["application/problem+json"]["examples"]
    assert set(conflict) == {
        "charge-refunded",
        "access-ended",
        "request-in-progress",
        "price-changed",
    }
    dear = await http.get("/events/final", headers={"Entitlements-Max-Cost": "1"})
    assert problem(dear).keys() == conflict["price-changed"]["value"].keys()


async def test_a_denial_that_was_not_recorded_names_no_transaction(
    http: httpx.AsyncClient, local: LocalService
) -> None:
    local.clock.advance(timedelta(seconds=60 - local.clock.now().second))
    bodies = [
        problem(await http.get("/events/final", headers={"X-User": "bob"})) for _ in range(61)
    ]
    assert ["transaction_id" in body for body in bodies] == [True] * 60 + [False]
