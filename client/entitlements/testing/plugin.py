"""The fixture `entitlement_service` for pytest.

In `conftest.py`:

    pytest_plugins = ["entitlements.testing.plugin"]

A test that has the fixture as an argument gets a service with an empty ledger. A mark gives it the
arguments of `LocalService`:

    @pytest.mark.entitlements(balances={"ada": 3}, catalogue={"simulation": 4})
    def test_of_mine(entitlement_service): ...
"""

from collections.abc import Iterator

import pytest

from entitlements.testing import LocalService


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers",
        "entitlements(balances, grants, catalogue, access): the arguments of the service in `entitlement_service`.",
    )


@pytest.fixture
def entitlement_service(request: pytest.FixtureRequest) -> Iterator[LocalService]:
    """The real entitlement service in this process, with an empty ledger, for one test."""
    mark = request.node.get_closest_marker("entitlements")
    with LocalService(**(mark.kwargs if mark else {})) as service:
        yield service
