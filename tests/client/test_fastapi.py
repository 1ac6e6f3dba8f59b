"""The gate for FastAPI: an app in this process, and a real service."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import PlainTextResponse

from entitlements import AsyncEntitlementClient, EntitlementError, Transaction
from entitlements.fastapi import Gate, install
from support.server_process import ServerProcess


async def current_user(x_user: Annotated[str, Header()]) -> str:
    return x_user


async def event_of_path(event: str) -> str:
    return event


def build(  # noqa: C901 - a list of endpoints
    client: AsyncEntitlementClient,
) -> tuple[FastAPI, dict[str, asyncio.Event]]:
    """An app with an endpoint for each way in which an analysis may end."""
    app = FastAPI()
    install(app)
    gate = Gate(client, user_id=current_user)
    signals = {"started": asyncio.Event(), "finish": asyncio.Event()}
    Paid = Annotated[Transaction, gate("full_distribution", event_id=event_of_path)]  # noqa: N806 - a type

    @app.get("/free", dependencies=[gate("headline_pick")])
    async def free() -> str:
        return "open"

    @app.get("/events/{event}")
    async def full(paid: Paid) -> dict[str, Any]:
        return {"left": paid.balance_after, "replayed": paid.replayed}

    @app.get("/events/{event}/in-a-thread")
    def in_a_thread(paid: Paid) -> int:
        return paid.balance_after

    @app.get("/events/{event}/raises")
    async def raises(_: Paid) -> None:
        raise ArithmeticError("secret of the simulation")

    @app.get("/events/{event}/not-found")
    async def not_found(_: Paid) -> None:
        raise HTTPException(404, "no such event")

    @app.get("/events/{event}/samples")
    async def samples(_: Paid, samples: int) -> int:
        return samples

    @app.get("/events/{event}/slow")
    async def slow(paid: Paid) -> int:
        signals["started"].set()
        await signals["finish"].wait()
        return paid.balance_after

    @app.get("/events/{event}/background")
    async def background(paid: Paid, tasks: BackgroundTasks) -> int:
        tasks.add_task(fail_later)
        return paid.balance_after

    def fail_later() -> None:
        raise ArithmeticError("after the response")

    @app.get("/open")
    async def ungated() -> str:
        return "open"

    @app.get("/events/{event}/own-response")
    async def own_response(_: Paid) -> PlainTextResponse:
        return PlainTextResponse("mine")

    @app.get("/unknown-feature", dependencies=[gate("crystal_ball")])
    async def unknown() -> None:
        pytest.fail("granted")

    return app, signals


@pytest.fixture
async def app(aio_client: AsyncEntitlementClient) -> tuple[FastAPI, dict[str, asyncio.Event]]:
    return build(aio_client)


def http_to(app: FastAPI, user: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-User": user})


@pytest.fixture
async def http(app: Any, user: str) -> AsyncIterator[httpx.AsyncClient]:
    async with http_to(app[0], user) as client:
        yield client


async def test_an_app_without_install_fails_at_its_first_request_and_charges_nothing(
    aio_client: AsyncEntitlementClient, user: str
) -> None:
    """And not at the first denial, as status 500."""
    app = FastAPI()
    app.get("/paid", dependencies=[Gate(aio_client, user_id=current_user)("full_distribution")])(
        nothing
    )
    await aio_client.top_up(user, 2)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers={"X-User": user}
    ) as http:
        with pytest.raises(RuntimeError, match=r"call entitlements.fastapi.install\(app\)"):
            await http.get("/paid")
    assert (await aio_client.get_account(user)).balance == 2


async def test_an_app_with_a_handler_of_its_own_needs_no_install(
    aio_client: AsyncEntitlementClient, user: str
) -> None:
    async def handle(_: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(type(error).__name__, 402)

    app = FastAPI(exception_handlers={EntitlementError: handle})
    app.get("/paid", dependencies=[Gate(aio_client, user_id=current_user)("full_distribution")])(
        nothing
    )
    async with http_to(app, user) as http:
        assert (await http.get("/paid")).text == "AccessDeniedError"


async def nothing() -> None:
    """An endpoint."""


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    return body


async def test_a_free_feature_is_open_at_zero_tokens(http: httpx.AsyncClient) -> None:
    """For a user never seen."""
    assert (await http.get("/free")).json() == "open"


async def test_a_denial_is_402_with_required_and_available(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """As a problem document, and the endpoint does not run."""
    await aio_client.top_up(user, 1)
    response = await http.get("/events/final")
    body = problem(response)
    assert response.status_code == 402
    assert (body["required"], body["available"]) == (2, 1)
    assert (body["feature"], body["title"]) == ("full_distribution", "Not enough tokens")
    denied = await aio_client.get_transaction(user, body["transaction_id"])
    assert (denied.status, denied.event_id) == ("DENIED", "final")


async def test_an_endpoint_is_charged_and_has_the_transaction(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """Async or in a thread."""
    await aio_client.top_up(user, 4)
    assert (await http.get("/events/final")).json() == {"left": 2, "replayed": False}
    assert (await http.get("/events/final/in-a-thread")).json() == 0


async def test_the_same_idempotency_key_charges_once(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """The second request is answered, too."""
    await aio_client.top_up(user, 2)
    headers = {"Idempotency-Key": "k-1"}
    for replayed in (False, True):
        response = await http.get("/events/final", headers=headers)
        assert response.json() == {"left": 0, "replayed": replayed}
    assert (await aio_client.get_account(user)).balance == 0


async def test_the_key_of_another_event_is_422(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """One key is one purchase."""
    await aio_client.top_up(user, 9)
    headers = {"Idempotency-Key": "k-1"}
    await http.get("/events/semifinal", headers=headers)
    response = await http.get("/events/final", headers=headers)
    assert response.status_code == 422
    assert problem(response)["field"] == "event_id"


@pytest.mark.parametrize(
    ("path", "status"),
    [("raises", 500), ("not-found", 404), ("samples?samples=many", 422)],
)
async def test_an_endpoint_that_raises_costs_nothing(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str, path: str, status: int
) -> None:
    """Whatever it raises, and also when FastAPI rejects the other parameters."""
    await aio_client.top_up(user, 2)
    response = await http.get(f"/events/final/{path}", headers={"Idempotency-Key": "k-1"})
    assert response.status_code == status
    assert "secret" not in response.text
    assert (await aio_client.get_account(user)).balance == 2
    # Its key was refunded and gives access to nothing, or a failed request would make the next one free.
    again = await http.get("/events/final", headers={"Idempotency-Key": "k-1"})
    assert again.status_code == 409
    assert problem(again)["type"] == "urn:entitlements:charge-refunded"


async def test_a_bad_retry_does_not_make_the_first_answer_free(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """The key of a request that was served stays paid, whatever is asked under it."""
    await aio_client.top_up(user, 2)
    headers = {"Idempotency-Key": "k-1"}
    assert (await http.get("/events/final/samples?samples=9", headers=headers)).json() == 9
    assert (await http.get("/events/final/samples?samples=x", headers=headers)).status_code == 422
    assert (await aio_client.get_account(user)).balance == 0
    assert (await http.get("/events/final/samples?samples=9", headers=headers)).json() == 9


async def test_a_second_request_under_a_key_in_progress_is_409(
    app: Any, http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """If it were served and the first then failed, it would have been served for nothing."""
    signals = app[1]
    await aio_client.top_up(user, 2)
    headers = {"Idempotency-Key": "k-1"}
    first = asyncio.create_task(http.get("/events/final/slow", headers=headers))
    await signals["started"].wait()
    async with asyncio.timeout(30):
        second = await http.get("/events/final/slow", headers=headers)
    assert second.status_code == 409
    assert problem(second)["type"] == "urn:entitlements:request-in-progress"
    async with http_to(app[0], f"{user}-2") as other:
        # Another user's keys are their own.
        assert (await other.get("/events/final/slow", headers=headers)).status_code == 402
    signals["finish"].set()
    assert (await first).status_code == 200
    assert (await http.get("/events/final/slow", headers=headers)).status_code == 200


async def test_what_fails_after_the_response_is_paid(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """The analysis was delivered."""
    await aio_client.top_up(user, 2)
    assert (await http.get("/events/final/background")).json() == 0
    assert (await aio_client.get_account(user)).balance == 0


@pytest.mark.parametrize(
    ("headers", "field"),
    [({"Idempotency-Key": "two words"}, "idempotency_key"), ({"X-User": "a b"}, "user_id")],
)
async def test_a_value_that_is_not_valid_is_400(
    http: httpx.AsyncClient, headers: dict[str, str], field: str
) -> None:
    """With the field that is wrong."""
    response = await http.get("/events/final", headers=headers)
    assert response.status_code == 400
    assert problem(response)["field"] == field


async def test_a_key_that_is_too_long_is_rejected_before_any_call(http: httpx.AsyncClient) -> None:
    """By FastAPI, as the OpenAPI document says."""
    response = await http.get("/events/final", headers={"Idempotency-Key": "k" * 256})
    assert response.status_code == 422


async def test_a_mistake_on_this_side_is_500_and_in_the_log(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A feature that nobody sells: the user learns nothing of it, and the log says it."""
    response = await http.get("/unknown-feature")
    assert response.status_code == 500
    assert "crystal_ball" not in response.text
    assert problem(response)["title"] == "This analysis is not available"
    assert "crystal_ball" in caplog.text


async def test_a_service_that_is_not_there_is_503_with_a_key_to_ask_again(
    user: str, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is granted, nothing about this program is answered, and the log says more."""
    address = f"127.0.0.1:{unused_tcp_port}"
    async with (
        AsyncEntitlementClient(address, deadline_s=0.2) as client,
        http_to(build(client)[0], user) as http,
    ):
        response = await http.get("/events/final")
        assert response.status_code == 503
        body = problem(response)
        assert len(body["idempotency_key"]) == 32
        assert str(unused_tcp_port) not in response.text
        assert "ServiceUnavailableError" in caplog.text
        named = await http.get("/events/final", headers={"Idempotency-Key": "k-1"})
        assert problem(named)["idempotency_key"] == "k-1"


async def test_the_client_may_be_built_before_there_is_an_event_loop(
    service: ServerProcess,
) -> None:
    """As apps do at import: here in a thread that has none."""
    client = await asyncio.to_thread(AsyncEntitlementClient, service.address)
    async with client, http_to(build(client)[0], "ada") as http:
        assert (await http.get("/free")).status_code == 200


def test_each_request_may_have_an_event_loop_of_its_own(service: ServerProcess, user: str) -> None:
    """As with FastAPI's TestClient outside of `with`; the client uses the loop of the call."""
    client = AsyncEntitlementClient(service.address)
    app, _ = build(client)
    asyncio.run(client.top_up(user, 4))

    async def ask() -> Any:
        async with http_to(app, user) as http:
            return (await http.get("/events/final")).json()["left"]

    assert [asyncio.run(ask()) for _ in range(2)] == [2, 0]
    assert len(client._links) == 1  # Those of loops that have ended are let go.


def test_two_threads_may_share_a_client_each_on_its_own_event_loop(
    service: ServerProcess, user: str
) -> None:
    client = AsyncEntitlementClient(service.address, batching=True)
    asyncio.run(client.top_up(user, 40))
    both = threading.Barrier(2)

    async def charge() -> None:
        await client.get_account(user)
        await asyncio.to_thread(both.wait, 30)
        await asyncio.gather(*(client.consume(user, "full_distribution") for _ in range(10)))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(asyncio.run, charge()) for _ in range(2)]:
            done.result(60)
    assert asyncio.run(client.get_account(user)).balance == 0


async def test_the_openapi_document_has_the_header(app: Any, http: httpx.AsyncClient) -> None:
    """So that every client that is made from it can send it."""
    document = app[0].openapi()
    names = [each["name"] for each in document["paths"]["/events/{event}"]["get"]["parameters"]]
    assert "idempotency-key" in names


def charge_headers(response: httpx.Response) -> tuple[str | None, str | None]:
    headers = response.headers
    return headers.get("entitlements-charged"), headers.get("entitlements-left")


async def test_a_response_reports_what_was_charged_and_what_is_left(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    """Also if the endpoint makes its own response. A replay was charged before."""
    await aio_client.top_up(user, 7)
    key = {"Idempotency-Key": "k-1"}
    assert charge_headers(await http.get("/free")) == ("0", "7")
    assert charge_headers(await http.get("/events/final", headers=key)) == ("2", "5")
    assert charge_headers(await http.get("/events/final", headers=key)) == ("0", None)
    assert charge_headers(await http.get("/events/final/own-response")) == ("2", "3")
    assert charge_headers(await http.get("/events/final/in-a-thread")) == ("2", "1")


async def test_a_response_reports_no_charge_that_was_refunded_or_denied(
    http: httpx.AsyncClient, aio_client: AsyncEntitlementClient, user: str
) -> None:
    assert charge_headers(await http.get("/events/final")) == (None, None)
    await aio_client.top_up(user, 2)
    assert charge_headers(await http.get("/events/final/not-found")) == (None, None)
    assert charge_headers(await http.get("/events/final/raises")) == (None, None)
    assert charge_headers(await http.get("/open")) == (None, None)


async def test_the_openapi_document_lists_the_problems_of_gated_endpoints_with_their_bodies(
    app: Any, http: httpx.AsyncClient, user: str
) -> None:
    """What is listed is what is answered: names and types of members."""
    document = (await http.get("/openapi.json")).json()
    operation = document["paths"]["/events/{event}"]["get"]
    responses = operation["responses"]
    assert list(responses) == ["200", "400", "402", "409", "422", "503"]
    assert set(responses["200"]["headers"]) == {
        "Entitlements-Charged",
        "Entitlements-Left",
        "Entitlements-Access-Until",
    }
    assert "Retry-After" in responses["503"]["headers"]
    assert "application/json" in responses["422"]["content"]  # FastAPI's own stays.
    denied = problem(await http.get("/events/final"))
    shown = responses["402"]["content"]["application/problem+json"]
    assert shown["examples"]["insufficient-tokens"]["value"].keys() == denied.keys()
    schema = document["components"]["schemas"][shown["schema"]["$ref"].rpartition("/")[2]]
    types = {"integer": int, "string": str}
    for name, value in denied.items():
        assert isinstance(value, types[schema["properties"][name]["type"]])
    conflicts = responses["409"]["content"]["application/problem+json"]["examples"]
    assert {"charge-refunded", "request-in-progress"} <= set(conflicts)
    assert list(document["paths"]["/open"]["get"]["responses"]) == ["200"]


def test_a_gate_depends_on_what_its_user_says() -> None:
    """The dependency that returns the event may validate before anything is charged."""

    async def valid_event(event: str) -> str:
        raise HTTPException(404, f"no event {event}")

    client = AsyncEntitlementClient("127.0.0.1:1", deadline_s=0.1)
    app = FastAPI()
    gate = Gate(client, user_id=current_user, event_id=valid_event)

    @app.get("/events/{event}", dependencies=[gate("full_distribution"), Depends(current_user)])
    async def full() -> None:
        pytest.fail("granted")

    async def ask() -> int:
        async with http_to(app, "ada") as http:
            return (await http.get("/events/final")).status_code

    # With a service that is not there, a call would have been a 500 here.
    assert asyncio.run(ask()) == 404


def test_the_dependencies_of_a_gate_are_keys_for_overrides() -> None:
    """The same feature and event are one dependency, and all of a gate depend on one client."""
    gate = Gate(AsyncEntitlementClient("127.0.0.1:1"), user_id=current_user)
    paid = gate.dependency("full_distribution")
    assert gate("full_distribution").dependency is paid
    assert gate.dependency("full_distribution", event_id=event_of_path) is not paid
    assert gate.dependency("headline_pick") is not paid
    app = FastAPI()

    @app.get("/full", dependencies=[gate("full_distribution")])
    async def full() -> str:
        return "open"

    app.dependency_overrides = {paid: lambda: None}
    ask = asyncio.run(answer_of(app, "/full"))
    assert (ask.status_code, ask.json()) == (200, "open")


async def test_another_client_can_be_given_to_a_gate(
    aio_client: AsyncEntitlementClient, user: str
) -> None:
    """As a test does that has a service of its own."""
    gate = Gate(AsyncEntitlementClient("127.0.0.1:1", deadline_s=0.1), user_id=current_user)
    app = FastAPI()
    install(app)

    @app.get("/full")
    async def full(paid: Annotated[Transaction, gate("full_distribution")]) -> int:
        return paid.balance_after

    app.dependency_overrides[gate.client] = lambda: aio_client
    await aio_client.top_up(user, 3)
    assert (await answer_of(app, "/full", user)).json() == 1
    app.dependency_overrides.clear()
    assert (await answer_of(app, "/full", user)).status_code == 503


async def answer_of(app: FastAPI, path: str, user: str = "ada") -> httpx.Response:
    async with http_to(app, user) as http:
        return await http.get(path)
