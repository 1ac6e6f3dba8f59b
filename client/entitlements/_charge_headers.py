"""Response headers that tell what a request was charged, what is left, and until when it is paid.

A gate notes each charge in the scope of its request. The middleware writes the headers, so that they are there
whatever the endpoint returns.
"""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from entitlements._values import Transaction

CHARGED = "Entitlements-Charged"
"""Tokens that this request was charged, all its gates together. 0: free, or paid by an earlier request."""

LEFT = "Entitlements-Left"
"""Tokens that the user had left after the charge. Absent if an earlier request made it: that is long ago."""

ACCESS_UNTIL = "Entitlements-Access-Until"
"""Until when the same event costs nothing, RFC 3339 in UTC. Absent if every use is charged."""

Scope = MutableMapping[str, Any]
_App = Callable[[Scope, Any, Any], Awaitable[None]]
_NOTES = "entitlements.charges"


@dataclass(frozen=True, slots=True)
class _Note:
    """What one gate has to tell."""

    charged: int
    left: int | None
    access_until: datetime | None


@contextmanager
def noted(scope: Scope, paid: Transaction, *, own_key: bool) -> Iterator[None]:
    """Note a charge while the block runs, and keep it if the block succeeds.

    Args:
        scope: Of the request.
        paid: The charge.
        own_key: Whether the request brought the key. Without one, a replay is a retry of gRPC, and the
            charge was made for this request.
    """
    earlier = paid.covered or (own_key and paid.replayed)
    note = _Note(
        charged=0 if earlier else paid.cost,
        left=None if earlier else paid.balance_after,
        access_until=paid.access_until,
    )
    notes: list[_Note] = scope.setdefault(_NOTES, [])
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
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.lower().encode(), value.encode()) for name, value in _headers(notes)),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _headers(notes: Sequence[_Note]) -> Iterator[tuple[str, str]]:
    """Yield the headers. Several gates: the sum of what they charged, and the first end of access."""
    yield CHARGED, str(sum(note.charged for note in notes))
    if notes[-1].left is not None:
        yield LEFT, str(notes[-1].left)
    ends = [note.access_until for note in notes if note.access_until is not None]
    if ends:
        yield ACCESS_UNTIL, min(ends).astimezone(UTC).isoformat().replace("+00:00", "Z")
