"""One real service for the tests of the client, and both clients by one way to ask."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from entitlements import AsyncEntitlementClient, EntitlementClient
from support.asking import Asking
from support.server_process import ServerProcess


@pytest.fixture(scope="session")
def service() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture
def client(service: ServerProcess) -> Iterator[EntitlementClient]:
    with EntitlementClient(service.address) as client:
        yield client


@pytest.fixture
async def aio_client(service: ServerProcess) -> AsyncIterator[AsyncEntitlementClient]:
    async with AsyncEntitlementClient(service.address) as client:
        yield client


@pytest.fixture
def user() -> str:
    """A user whom no other test knows."""
    return f"user-{uuid4().hex}"


@pytest.fixture(params=["blocking", "asyncio", "batching"])
async def ask(request: pytest.FixtureRequest, service: ServerProcess) -> AsyncIterator[Asking]:
    """Each of the two clients, in turn, and the second also with its charges batched."""
    if request.param == "blocking":
        with EntitlementClient(service.address) as client:
            yield Asking(client)
    else:
        batching = request.param == "batching"
        async with AsyncEntitlementClient(service.address, batching=batching) as aio_client:
            yield Asking(aio_client)
