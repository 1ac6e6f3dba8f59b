"""What the paid endpoint promises to its users."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from entitlements.testing import LocalService
from my_api.app import app, gate

DISTRIBUTION = "/events/final/distribution"


def test_the_headline_is_free(http: TestClient, entitlement_service: LocalService) -> None:
    """For a user without tokens."""
    assert http.get("/events/final/headline").json() == 0.5
    assert entitlement_service.balance("ada") == 0


def test_without_tokens_it_is_402(http: TestClient) -> None:
    """With what is missing, for the page that sells tokens."""
    denied = http.get(DISTRIBUTION)
    assert denied.status_code == 402
    assert (denied.json()["required"], denied.json()["available"]) == (2, 0)


@pytest.mark.entitlements(balances={"ada": 3})
def test_it_costs_two_tokens(http: TestClient, entitlement_service: LocalService) -> None:
    """And says what is left."""
    assert http.get(DISTRIBUTION).json() == {"value": 0.5, "tokens_left": 1}
    assert entitlement_service.balance("ada") == 1


@pytest.mark.entitlements(balances={"ada": 3})
@pytest.mark.parametrize(("percentile", "value"), [(10, 0.2), (50, 0.5), (90, 0.8)])
def test_it_has_three_percentiles(http: TestClient, percentile: int, value: float) -> None:
    """Each at the same price."""
    answer = http.get(DISTRIBUTION, params={"percentile": percentile})
    assert answer.json() == {"value": value, "tokens_left": 1}


@pytest.mark.entitlements(balances={"ada": 3})
@pytest.mark.parametrize("percentile", [0, 42, 100])
def test_what_fails_is_refunded(
    http: TestClient, entitlement_service: LocalService, percentile: int
) -> None:
    """The charge and the refund stay in the history."""
    assert http.get(DISTRIBUTION, params={"percentile": percentile}).status_code == 422
    history = entitlement_service.client.list_transactions("ada")
    assert [each.kind for each in history] == ["REFUND", "CONSUME", "TOP_UP"]
    assert entitlement_service.balance("ada") == 3


@pytest.mark.entitlements(balances={"ada": 3})
def test_an_unknown_event_is_not_charged(
    http: TestClient, entitlement_service: LocalService
) -> None:
    """Not even for a moment."""
    assert http.get("/events/breakfast/distribution").status_code == 404
    assert [each.kind for each in entitlement_service.client.list_transactions("ada")] == ["TOP_UP"]


@pytest.mark.entitlements(balances={"ada": 3})
def test_a_retry_with_the_same_key_is_free(
    http: TestClient, entitlement_service: LocalService
) -> None:
    """As a browser makes it after a lost connection."""
    for _ in range(3):
        answer = http.get(DISTRIBUTION, headers={"Idempotency-Key": "click-1"})
        assert answer.json()["tokens_left"] == 1
    assert entitlement_service.balance("ada") == 1


@pytest.mark.entitlements(balances={"ada": 9})
def test_a_key_belongs_to_one_event(http: TestClient) -> None:
    """It does not open another one."""
    key = {"Idempotency-Key": "click-1"}
    assert http.get(DISTRIBUTION, headers=key).status_code == 200
    assert http.get("/events/semifinal/distribution", headers=key).status_code == 422


@pytest.mark.entitlements(balances={"ada": 5, "grace": 2})
def test_each_user_pays_with_own_tokens(
    http: TestClient, entitlement_service: LocalService
) -> None:
    """Whoever asks is charged."""
    http.get(DISTRIBUTION, headers={"X-User-Id": "grace"})
    assert (entitlement_service.balance("ada"), entitlement_service.balance("grace")) == (5, 0)


@pytest.mark.entitlements(balances={"ada": 5}, catalogue={"full_distribution": 4})
def test_the_price_is_that_of_the_catalogue(http: TestClient) -> None:
    """The code of the API has no prices."""
    assert http.get(DISTRIBUTION).json()["tokens_left"] == 1
    assert http.get(DISTRIBUTION).json()["required"] == 4


@pytest.mark.entitlements(balances={"ada": 5}, catalogue={"headline_pick": 0})
def test_a_feature_that_is_not_sold_is_a_fault_of_the_api(http: TestClient) -> None:
    """Not of its user, who is not charged."""
    assert http.get(DISTRIBUTION).status_code == 500


@pytest.mark.entitlements(balances={"ada": 5})
def test_the_history_says_what_was_paid_and_when(
    http: TestClient, entitlement_service: LocalService
) -> None:
    """By the clock of the service, which a test can move."""
    entitlement_service.clock.advance(timedelta(days=7))
    http.get(DISTRIBUTION)
    charge = next(entitlement_service.client.list_transactions("ada", feature="full_distribution"))
    assert charge.event_id == "final"
    assert entitlement_service.clock.now() - charge.create_time < timedelta(days=1)


@pytest.mark.entitlements(balances={"ada": 2})
async def test_an_asynchronous_test_asks_the_same_service(
    http: TestClient, entitlement_service: LocalService
) -> None:
    """The service has a thread of its own, so nothing waits for itself."""
    async with entitlement_service.async_client() as client:
        assert (await client.get_account("ada")).balance == 2
        http.get(DISTRIBUTION)
        assert (await client.get_account("ada")).balance == 0


@pytest.mark.entitlements(balances={"ada": 2})
def test_the_service_is_down(http: TestClient, entitlement_service: LocalService) -> None:
    """Then nothing is given away. The short deadline saves the wait for its restart."""
    entitlement_service.stop()
    impatient = entitlement_service.async_client(deadline_s=0.1)
    app.dependency_overrides[gate.client] = lambda: impatient
    assert http.get(DISTRIBUTION).status_code == 503


def test_without_a_service(http: TestClient) -> None:
    """The paid dependency itself can be replaced, where a test is about something else."""
    app.dependency_overrides[gate.dependency("full_distribution")] = lambda: None
    assert http.get(DISTRIBUTION, params={"percentile": 42}).status_code == 422


@pytest.mark.entitlements(balances={"ada": 2})
def test_two_services_at_once(http: TestClient) -> None:
    """Each has a ledger of its own: here a second one, as a context manager."""
    with LocalService(balances={"ada": 7}) as other:
        http.get(DISTRIBUTION)
        assert other.balance("ada") == 7
