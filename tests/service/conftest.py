from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rpc import Api, serving


@pytest.fixture(params=["memory", "sqlite"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    """A real server over a real channel, on each embedded store."""
    store = "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/ledger.sqlite"
    async with serving(store=store) as api:
        yield api
