"""Keeping health in step with whether the store can be reached."""

import asyncio
from collections.abc import Callable

import structlog
from grpc_health.v1 import health, health_pb2

from entitlements_server.stores.interface import Store, StoreUnavailableError

log = structlog.get_logger()

_PING_SECONDS = 1.0
_PING_TIMEOUT_SECONDS = 5.0
_TELL_SECONDS = 5.0


async def monitor(
    store: Store,
    servicer: health.aio.HealthServicer,
    services: tuple[str, ...],
    tell: Callable[[bool], None],
) -> None:
    """Ping the store every second, for ever, and set the health of `services` accordingly.

    Args:
        store: What has to be reached.
        servicer: Tells callers.
        services: By full name; the empty name is the server as a whole.
        tell: Told of every ping.
    """
    known = None
    while True:
        cause = ""
        try:
            await asyncio.wait_for(store.ping(), _PING_TIMEOUT_SECONDS)
            status = health_pb2.HealthCheckResponse.SERVING
        except (StoreUnavailableError, TimeoutError) as error:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
            cause = repr(error.__cause__ or error)
        tell(status == health_pb2.HealthCheckResponse.SERVING)
        if status != known:
            if cause:
                log.warning(
                    "The ledger cannot be reached, so health is NOT_SERVING until it can: mend its"
                    " disk or its Redis; the server goes on trying.",
                    cause=cause,
                )
            elif known is not None:
                log.warning("The ledger can be reached again, so health is SERVING.")
            try:
                for service in services:
                    # A watcher that reads nothing must not keep the others from the news.
                    await asyncio.wait_for(servicer.set(service, status), _TELL_SECONDS)
                known = status
            except TimeoutError:
                log.warning("Not every watcher of health could be told.")
        await asyncio.sleep(_PING_SECONDS)


async def say_goodbye(servicer: health.aio.HealthServicer) -> None:
    """Say NOT_SERVING from here on, whatever the monitor found."""
    try:
        await asyncio.wait_for(servicer.enter_graceful_shutdown(), _TELL_SECONDS)
    except TimeoutError:
        log.warning("Not every watcher of health could be told.")
