"""One real service for the tests of the client, and both clients behind one way to ask."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from serving import ServiceProcess

from entitlements import AsyncEntitlementClient, EntitlementClient, Transaction


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


class Asking:
    """Asks either client, so that one test body holds for both."""

    def __init__(self, client: EntitlementClient | AsyncEntitlementClient) -> None:
        self.client = client

    async def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        ask = getattr(self.client, method)
        if isinstance(self.client, EntitlementClient):
            return await asyncio.to_thread(ask, *args, **kwargs)
        return await ask(*args, **kwargs)

    async def history(self, user: str, **kwargs: Any) -> list[Transaction]:
        """The whole history, newest first."""
        if isinstance(self.client, EntitlementClient):
            return list(self.client.transactions(user, **kwargs))
        return [each async for each in self.client.transactions(user, **kwargs)]

    async def gated(self, work: Any, **kwargs: Any) -> Any:
        """Run `work(tx)` inside of `with require_tokens`."""
        if isinstance(self.client, EntitlementClient):
            with self.client.require_tokens(**kwargs) as tx:
                return work(tx)
        async with self.client.require_tokens(**kwargs) as tx:
            return work(tx)


@pytest.fixture(params=["blocking", "asyncio"])
async def ask(request: pytest.FixtureRequest, service: ServiceProcess) -> AsyncIterator[Asking]:
    """Each of the two clients, in turn."""
    if request.param == "blocking":
        with EntitlementClient(service.address) as client:
            yield Asking(client)
    else:
        async with AsyncEntitlementClient(service.address) as aio_client:
            yield Asking(aio_client)
