"""Which tests are slow: the one place that says so.

`make test` leaves the slow ones out, `make test-all` runs everything. A test is slow

- by its folder: everything in SLOW_FOLDERS runs processes by the dozen or waits for what takes time;
- by its variant: what is shown of one store or transport is shown again of another (`_is_variant`);
- by its own mark, `@pytest.mark.slow`: it takes more than a second or so.

CONTRIBUTING.md says which tier a new test belongs to.
"""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# A server without a store in its settings would open the ledger of whoever runs the tests.
os.environ.setdefault("ENTITLEMENTS_STORE", "memory://")

SLOW_FOLDERS = {
    "bench",  # starts servers and load generators
    "cli",  # starts a process for each command
    "faults",  # breaks the service on purpose
    "release",  # installs the package in environments by the dozen
    "process",  # starts a server for each test, and callers in other languages
}

SLOW_STORES = {"redis", "postgresql"}
"""Folders of `stores` whose tests start the server of a store."""

QUICK_STORES = {"memory", "sqlite", "sqlite-busy"}
"""The contract of the stores is quick on these: others are servers."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by its folder or variant, before pytest looks at the marks."""
    for item in items:
        folder, *inner = item.path.relative_to(TESTS).parts
        is_slow = folder in SLOW_FOLDERS or (folder == "stores" and inner[0] in SLOW_STORES)
        if is_slow or _is_variant(item, folder):
            item.add_marker(pytest.mark.slow)


def _is_variant(item: pytest.Item, folder: str) -> bool:
    """Whether an item shows what another one shows, where that is slower to show."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    params = item.callspec.params
    if folder == "stores":
        store = params.get("kind", params.get("durable_kind", "memory"))
        return store not in QUICK_STORES or params.get("servers") == "cluster"
    return folder != "transport" and params.get("transport") == "threads"
