"""One real service for the tests of the client, and both clients behind one way to ask."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from asking import Asking
from entitlements import AsyncEntitlementClient, EntitlementClient
from serving import ServiceProcess


@pytest.fixture(scope="session")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[EntitlementClient]:
    with EntitlementClient(service.address) as client:
        yield client


@pytest.fixture
async def aio_client(service: ServiceProcess) -> AsyncIterator[AsyncEntitlementClient]:
    async with AsyncEntitlementClient(service.address) as client:
        yield client


@pytest.fixture
def user() -> str:
    """A user whom no other test knows."""
    return f"user-{uuid4().hex}"


@pytest.fixture(params=["blocking", "asyncio"])
async def ask(request: pytest.FixtureRequest, service: ServiceProcess) -> AsyncIterator[Asking]:
    """Each of the two clients, in turn."""
    if request.param == "blocking":
        with EntitlementClient(service.address) as client:
            yield Asking(client)
    else:
        async with AsyncEntitlementClient(service.address) as aio_client:
            yield Asking(aio_client)
