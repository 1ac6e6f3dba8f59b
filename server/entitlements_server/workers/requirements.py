"""Which settings allow several workers."""

import sys

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.settings import UNIX, Settings
from entitlements_server.stores.urls import scheme_of

_REASONS = {
    "memory": "a ledger in memory is lost with its process, and no other process sees it",
    "sqlite": "a ledger in a SQLite file belongs to the one process that has it open",
}


class WorkersError(ConfigurationError):
    """There cannot be several workers; the message says why, and what to do instead."""


def require_sharing(settings: Settings) -> None:
    """Require that several processes can serve with these settings.

    Raises:
        WorkersError: They cannot.
    """
    scheme = scheme_of(settings.store)
    if scheme in _REASONS:
        raise WorkersError(
            f"There cannot be {settings.workers} workers: {_REASONS[scheme]}. Use one worker, which"
            " serves some thousand charges per second, or keep the ledger in PostgreSQL"
            " (--store postgresql://…) or Redis (redis://…); `entitlements-server copy` moves it there."
        )
    if settings.listen.startswith(UNIX):
        raise WorkersError(
            f"There cannot be {settings.workers} workers on {settings.listen}: only one process can"
            " listen on a Unix domain socket. Listen on HOST:PORT, or use one worker."
        )
    if sys.platform != "linux":
        raise WorkersError(
            f"There cannot be {settings.workers} workers on {sys.platform}: only Linux shares the"
            " connections to one port out among processes. Use one worker, or start servers on several"
            " ports."
        )
