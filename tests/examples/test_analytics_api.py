"""The example from end to end: HTTP, the API as a process, the service as another."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from entitlements import EntitlementClient, TransactionKind
from support.repository import EXAMPLES
from support.server_process import ServerProcess
from support.waiting import PATIENCE_S
from support.wire import Wire

DISTRIBUTION = "/events/harbour-final/distribution"


@contextmanager
def running(*options: str) -> Iterator[str]:
    """Run the example, and give what it prints; its last words are about `/tokens`."""
    env = {key: value for key, value in os.environ.items() if "ENTITLEMENTS" not in key}
    process = subprocess.Popen(
        [sys.executable, "-m", "analytics_api", "--listen", "127.0.0.1:0", *options],
        cwd=EXAMPLES,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        too_late = threading.Timer(PATIENCE_S, process.kill)
        too_late.start()
        for line in process.stdout:
            printed += line
            if line.endswith("/tokens\n"):
                break
        too_late.cancel()
        assert printed.endswith("/tokens\n"), (printed, process.communicate())
        yield printed
    finally:
        # As Ctrl-C in a terminal: everyone in the foreground gets it.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in errors


def url(printed: str) -> str:
    found = re.search(r"the API on (http://\S+)\. Stop", printed)
    assert found
    return found[1]


class Example:
    """One service process, and the API as a process in front of it, over a wire."""

    def __init__(self, service: ServerProcess, wire: Wire) -> None:
        self.service = service
        self.wire = wire

    @property
    def client(self) -> EntitlementClient:
        """Around the wire, to see what the ledger says."""
        return EntitlementClient(self.service.address)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    store = f"sqlite://{tmp_path_factory.mktemp('ledger')}/ledger.sqlite"
    with ServerProcess("--store", store) as service, closing(Wire(service.address)) as wire:
        yield Example(service, wire)


@pytest.fixture(scope="module")
def api(example: Example) -> Iterator[str]:
    with running("--service", example.wire.address, "--deadline", "3") as printed:
        yield url(printed)


@pytest.fixture
def http(api: str, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    headers = {"X-User-Id": request.node.name}
    with httpx.Client(base_url=api, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def test_the_free_feature_is_open_at_0_tokens(http: httpx.Client) -> None:
    """For a user never seen."""
    response = http.get("/events/harbour-final/headline")
    assert response.status_code == 200
    assert response.json()["estimate"] == pytest.approx(0.613, abs=0.01)


def test_a_denial_is_402_with_required_and_available(
    example: Example, http: httpx.Client, user: str
) -> None:
    """1 token for an analysis of 2."""
    with example.client as client:
        client.top_up(user, 1)
    response = http.get(DISTRIBUTION)
    assert response.status_code == 402
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["required"], response.json()["available"]) == (2, 1)


def test_the_same_key_twice_charges_once(example: Example, http: httpx.Client, user: str) -> None:
    """And both requests get the same analysis."""
    with example.client as client:
        client.top_up(user, 3)
        headers = {"Idempotency-Key": "k-1"}
        first, again = (http.get(DISTRIBUTION, headers=headers) for _ in range(2))
        assert first.json() == again.json()
        assert first.status_code == again.status_code == 200
        assert client.get_account(user).balance == 1


def test_an_endpoint_that_raises_leaves_the_balance_as_it_was(
    example: Example, http: httpx.Client, user: str
) -> None:
    """The charge and its refund both stand in the history."""
    with example.client as client:
        client.top_up(user, 3)
        response = http.get("/events/unrated-debut/extremes")
        assert response.status_code == 500
        assert response.json()["title"] == "The analysis failed"
        assert client.get_account(user).balance == 3
        kinds = [each.kind for each in client.list_transactions(user)]
        assert kinds == [TransactionKind.REFUND, TransactionKind.CONSUME, TransactionKind.TOP_UP]


def test_a_wrong_event_is_rejected_before_any_charge(
    example: Example, http: httpx.Client, user: str
) -> None:
    """Nothing but the top-up is in the history."""
    with example.client as client:
        client.top_up(user, 9)
        assert http.get("/events/nobody-knows/deep-dive").status_code == 404
        assert http.get("/comparison?event_id=harbour-final").status_code == 422
        assert http.get("/comparison" + "?event_id=harbour-final&event_id=x").status_code == 404
        assert client.get_account(user).transaction_count == 1


def test_the_five_features_cost_what_the_catalogue_says(
    example: Example, http: httpx.Client, user: str
) -> None:
    """0, 2, 3, 3 and 5 tokens."""
    paths = [
        "/events/valley-opener/headline",
        "/events/valley-opener/distribution",
        "/events/valley-opener/extremes",
        "/comparison?event_id=valley-opener&event_id=harbour-final",
        "/events/valley-opener/deep-dive",
    ]
    with example.client as client:
        client.top_up(user, 13)
        assert [http.get(path).status_code for path in paths] == [200] * 5
        charges = list(client.list_transactions(user, kind=TransactionKind.CONSUME))[::-1]
        assert [each.cost for each in charges] == [0, 2, 3, 3, 5]
        assert charges[3].event_id == "harbour-final+valley-opener"
        assert http.get("/tokens").json() == {"balance": 0, "open": ["headline_pick"]}


@pytest.mark.slow
async def test_a_service_killed_in_mid_request_is_503_and_later_one_charge(
    example: Example, api: str, user: str
) -> None:
    """Charged and killed before the reply: nothing is granted. After the restart the key settles."""
    headers = {"X-User-Id": user, "Idempotency-Key": "k-1"}
    async with httpx.AsyncClient(base_url=api, headers=headers, timeout=60) as http:
        with example.client as client:
            client.top_up(user, 2)
            # So that the API is connected, and the charge is what is held.
            assert (await http.get("/tokens")).json()["balance"] == 2
            example.wire.hold_replies()
            request = asyncio.create_task(http.get(DISTRIBUTION))
            async with asyncio.timeout(60):
                while client.get_account(user).balance:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            assert not request.done()
        example.service.kill()
        example.wire.cut()
        response = await request
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["idempotency_key"] == "k-1"
        assert "percentiles" not in response.text

        example.service.start()
        response = await http.get(DISTRIBUTION)
        assert response.status_code == 200
        with example.client as client:
            assert client.get_account(user).balance == 0
            assert len(list(client.list_transactions(user, kind=TransactionKind.CONSUME))) == 1


@pytest.mark.slow
def test_one_command_runs_everything_and_prints_lines_that_work() -> None:
    """Each printed line, run in a shell, gives what the words above it say."""
    with running() as printed:
        answers: dict[str, str] = {}
        word = ""
        with httpx.Client() as http:
            for line in printed.splitlines():
                if line.startswith("  "):
                    answers[word] = _run(shlex.split(line), http)
                else:
                    word = line.partition(",")[0].rstrip(":")
    assert '"estimate"' in answers["Free for everyone"]
    assert '"status":402' in answers["Costs 2 tokens"]
    assert "topped up 20" in answers["Top up"]
    assert '"percentiles"' in answers["Charged"]
    assert '"variance_split"' in answers["The sources of the uncertainty"]
    assert '"larger_share"' in answers["Several events side by side"]
    assert "incomplete" in answers["An analysis that fails costs nothing"]
    assert '"balance":10' in answers["What is left"]


def _run(words: list[str], http: httpx.Client) -> str:
    if words[0] == "curl":
        # The same request without needing curl here.
        *options, address = words[1:]
        headers = dict(value.split(": ", 1) for value in options if ": " in value)
        return http.get(address, headers=headers).text
    words[0] = str(Path(sys.executable).parent / words[0])
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
