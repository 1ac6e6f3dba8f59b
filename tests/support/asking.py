"""Both clients by one way to ask, so that one test body holds for both."""

import asyncio
from collections.abc import Callable
from typing import Any

from entitlements import AsyncEntitlementClient, EntitlementClient, Transaction


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
            return list(self.client.list_transactions(user, **kwargs))
        return [each async for each in self.client.list_transactions(user, **kwargs)]

    async def gated(self, work: Callable[[Transaction], Any], **kwargs: Any) -> Any:
        """Run `work(tx)` inside of `with require_tokens`."""
        if isinstance(self.client, EntitlementClient):
            with self.client.require_tokens(**kwargs) as tx:
                return work(tx)
        async with self.client.require_tokens(**kwargs) as tx:
            return work(tx)
