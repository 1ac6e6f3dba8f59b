"""Response headers that tell what a request was charged, and what is left.

A gate notes each charge in the scope of its request. The middleware writes the headers, so that they are there
whatever the endpoint returns.
"""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from entitlements._values import Transaction

CHARGED = "Entitlements-Charged"
"""Tokens that this request was charged, all its gates together. 0: free, or paid by an earlier request."""

LEFT = "Entitlements-Left"
"""Tokens that the user had left after the charge. Absent if an earlier request made it: that is long ago."""

Scope = MutableMapping[str, Any]
_App = Callable[[Scope, Any, Any], Awaitable[None]]
_NOTES = "entitlements.charges"


@contextmanager
def noted(scope: Scope, paid: Transaction, *, own_key: bool) -> Iterator[None]:
    """Note a charge while the block runs, and keep it if the block succeeds.

    Args:
        scope: Of the request.
        paid: The charge.
        own_key: Whether the request brought the key. Without one, a replay is a retry of gRPC, and the
            charge was made for this request.
    """
    earlier = own_key and paid.replayed
    note = (0, None) if earlier else (paid.cost, paid.balance_after)
    notes = scope.setdefault(_NOTES, [])
    notes.append(note)
    try:
        yield
    except BaseException:
        # The tokens are refunded.
        notes.remove(note)
        raise


class ChargeHeaders:
    """The middleware, for any ASGI application."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve a request."""

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            notes = scope.get(_NOTES)
            if notes and message["type"] == "http.response.start":
                headers = [(CHARGED, sum(charged for charged, _ in notes))]
                if notes[-1][1] is not None:
                    headers.append((LEFT, notes[-1][1]))
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.lower().encode(), str(value).encode()) for name, value in headers),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)
