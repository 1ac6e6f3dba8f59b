"""The real service in the process of a test: to test what you build on it.

    from entitlements.testing import LocalService

    with LocalService(balances={"ada": 3}) as service:
        service.client.require_tokens(user_id="ada", feature="full_distribution")
        assert service.balance("ada") == 1

It listens on a free port of loopback and keeps its ledger in memory. It needs the extra `server`.
docs/testing.md shows how to test an endpoint with it.

| module | contents |
|---|---|
| `_service.py` | the service, and its clock |
| `_logs.py` | where its log lines go |
| `plugin.py` | the fixture for pytest: `pytest_plugins = ["entitlements.testing.plugin"]` |
"""

try:
    from entitlements.testing._service import Clock, LocalService
except ModuleNotFoundError as missing:
    if (missing.name or "").startswith("entitlements"):
        raise
    raise ModuleNotFoundError(
        "entitlements.testing runs the real service. Install entitlements with the extra 'server'.",
        name=missing.name,
    ) from None

__all__ = ["Clock", "LocalService"]
