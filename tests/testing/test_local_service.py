"""`entitlements.testing`: the real service in the process of a test."""

import socket
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from entitlements import AccessDeniedError, UnknownFeatureError
from entitlements.testing import LocalService


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_it_serves_and_leaves_no_thread_and_no_port() -> None:
    """Several times in a row, each with a ledger of its own."""
    before = set(threading.enumerate())
    for _ in range(5):
        with LocalService(balances={"ada": 3, "bob": 0}) as service:
            assert service.client.consume("ada", "full_distribution").balance_after == 1
            assert (service.balance("ada"), service.balance("bob")) == (1, 0)
            assert listens(service.address)
        assert set(threading.enumerate()) == before
        assert not listens(service.address)


def test_a_client_that_stays_connected_does_not_hold_it_up() -> None:
    """It is closed with the service."""
    before = set(threading.enumerate())
    service = LocalService().start()
    client = service.client
    client.list_features()
    service.stop()
    service.stop()  # Twice does nothing.
    assert set(threading.enumerate()) == before
    with pytest.raises(ValueError, match="closed"):
        client.list_features()


async def test_asynchronous_code_calls_it_from_its_own_event_loop() -> None:
    """Blocking code in the same test, too."""
    with LocalService(balances={"ada": 4}) as service:
        async with service.async_client() as client:
            async with client.require_tokens(user_id="ada", feature="full_distribution"):
                assert service.balance("ada") == 2
            assert (await client.get_account("ada")).balance == 2


def test_a_catalogue_is_costs_by_feature_or_a_file(tmp_path: Path) -> None:
    """None of it is left of the catalogue that ships."""
    with LocalService(balances={"ada": 4}, catalogue={"simulation": 4}) as service:
        assert service.client.consume("ada", "simulation").amount == -4
        with pytest.raises(UnknownFeatureError):
            service.client.consume("ada", "full_distribution")
    file = tmp_path / "catalogue.toml"
    file.write_text('[[features]]\nfeature = "poster"\ncost = 7\ntitle = "Poster"\n')
    with LocalService(catalogue=file) as service, pytest.raises(AccessDeniedError):
        service.client.consume("ada", "poster")


def test_grants_expire_and_windows_end_as_its_clock_is_moved_on() -> None:
    """Both are arguments. The other features keep what the catalogue says."""
    day = timedelta(days=1)
    with LocalService(
        balances={"ada": 1},
        grants={"ada": [(2, day), (3, 2 * day)], "bob": [(9, day)]},
        access={"full_distribution": 3 * day},
    ) as service:
        assert (service.available("ada"), service.available("bob")) == (6, 9)
        final: dict[str, Any] = {
            "user_id": "ada",
            "feature": "full_distribution",
            "event_id": "final",
        }
        service.client.consume(**final)
        service.clock.advance(day)
        assert service.available("ada") == 4
        assert service.client.consume(**final).covered
        service.clock.advance(2 * day)
        assert service.available("ada") == 1
        with pytest.raises(AccessDeniedError):
            service.client.consume(**final)
        access = [feature.access for feature in service.client.list_features()]
        assert access == [None, 3 * day, None, None, None]


def test_access_to_a_feature_that_is_not_there_is_refused() -> None:
    with pytest.raises(Exception, match="simulation"):
        LocalService(access={"simulation": timedelta(days=1)})
    with pytest.raises(Exception, match="access"):
        LocalService(access={"full_distribution": timedelta(milliseconds=1)})


def test_its_clock_can_be_moved_on_and_never_back() -> None:
    """What is recorded has the time of the service."""
    with LocalService() as service:
        first = service.client.top_up("ada", 1)
        service.clock.advance(timedelta(days=30))
        second = service.client.top_up("ada", 1)
        assert timedelta(days=30) <= second.create_time - first.create_time < timedelta(days=31)
        assert second.create_time <= service.clock.now()
        with pytest.raises(ValueError, match="moved on only"):
            service.clock.advance(timedelta(seconds=-1))


def test_the_environment_does_not_configure_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a test would write to the ledger of whoever runs it."""
    monkeypatch.setenv("ENTITLEMENTS_STORE", f"sqlite://{tmp_path}/mine.sqlite")
    monkeypatch.setenv("ENTITLEMENTS_MAX_QUEUED", "no number")
    with LocalService(balances={"ada": 1}):
        assert list(tmp_path.iterdir()) == []


def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the program under test; structlog is as it was before."""
    # Another test of this process may have configured it, and then its lines go where that says.
    structlog.reset_defaults()
    configured = structlog.get_config()
    with LocalService() as service:
        service.client.list_features()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert structlog.get_config() == configured


def test_what_cannot_start_says_why_and_leaves_nothing() -> None:
    """A balance, a cost, and a service that is not started or started twice."""
    before = set(threading.enumerate())
    with pytest.raises(Exception, match="amount"):
        LocalService(balances={"ada": -1}).start()
    with pytest.raises(Exception, match="cost"):
        LocalService(catalogue={"simulation": -1})
    with pytest.raises(RuntimeError, match="`with` block"):
        _ = LocalService().client
    with LocalService() as service, pytest.raises(RuntimeError, match="Build a new one"):
        service.start()
    assert set(threading.enumerate()) == before


def test_a_process_that_never_stops_it_ends_all_the_same() -> None:
    """As one whose test was interrupted."""
    script = (
        "from entitlements.testing import LocalService; print(LocalService().start().balance('a'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert (run.stdout, run.stderr) == ("0\n", "")
