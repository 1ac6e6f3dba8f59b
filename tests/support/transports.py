"""Both transports, for tests of what callers see."""

import pytest

TRANSPORTS = ("completion-queue", "threads")


@pytest.fixture(autouse=True, params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every server of a test, in this process or another one, uses this transport."""
    name: str = request.param
    monkeypatch.setenv("ENTITLEMENTS_TRANSPORT", name)
    return name
