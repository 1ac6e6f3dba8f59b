"""The API and the real entitlement service, both in the process of the test."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from entitlements.testing import LocalService
from my_api.app import app, gate

pytest_plugins = ["entitlements.testing.plugin"]


@pytest.fixture
def http(entitlement_service: LocalService) -> Iterator[TestClient]:
    """Calls the API as the user ada. The API calls the service of this test."""
    app.dependency_overrides[gate.client] = entitlement_service.client_dependency
    with TestClient(app, headers={"X-User-Id": "ada"}) as http:
        yield http
    app.dependency_overrides.clear()
