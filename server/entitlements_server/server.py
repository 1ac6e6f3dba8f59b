"""The wiring: from settings to a server that serves, and back down again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from entitlements_server.catalogue_file import CatalogueInForce
from entitlements_server.engine import Engine
from entitlements_server.service.handlers import SERVICE, generic_handler
from entitlements_server.service.reflection import add_reflection
from entitlements_server.service.servicer import Servicer
from entitlements_server.settings import Settings
from entitlements_server.stores.opening import open_store
from entitlements_server.stores.port import Store, StoreUnavailableError

log = structlog.get_logger()

_PING_SECONDS = 1.0
_PING_TIMEOUT_SECONDS = 5.0

_OPTIONS = (
    # Otherwise a second server binds the same port in silence.
    ("grpc.so_reuseport", 0),
    # Beyond 1,000 calls not yet taken up, gRPC would cancel some of them at random and without a
    # word. Our own queue refuses what is too much, with a reason and a delay.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
)


class ListenError(Exception):
    """The address cannot be listened on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that serves.

    Attributes:
        address: Where it listens, as HOST:PORT with the real port.
        catalogue: The catalogue in force.
    """

    address: str
    catalogue: CatalogueInForce


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningServer]:
    """Serve while the block runs; then finish what is in flight and close the store.

    Raises:
        CatalogueFileError: The catalogue file is none.
        StoreConfigurationError: The store cannot be opened.
        ListenError: The address cannot be listened on.
    """
    catalogue = CatalogueInForce(settings.catalogue)
    store = await open_store(settings.store)
    try:
        engine = Engine(store, catalogue, max_queued=settings.max_queued)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((generic_handler(Servicer(engine, store, catalogue)),))
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        add_reflection((SERVICE, health.SERVICE_NAME), server)
        address = _listen(server, settings.listen)
        await server.start()
        monitor = asyncio.create_task(_monitor(store, health_servicer))
        try:
            yield RunningServer(address, catalogue)
        finally:
            monitor.cancel()
            # From here on health says NOT_SERVING, whatever the monitor found.
            await health_servicer.enter_graceful_shutdown()
            await server.stop(settings.drain_seconds)
            await engine.close()
    finally:
        await store.close()


def _listen(server: grpc.aio.Server, listen: str) -> str:
    host = listen.rpartition(":")[0]
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(
            f"The address {listen} cannot be listened on: another server has it, or it is not an"
            " address of this machine. Stop the other one, or choose another with --listen."
        ) from error
    return f"{host}:{port}"


async def _monitor(store: Store, servicer: health.aio.HealthServicer) -> None:
    """Keep health in step with whether the store can be reached."""
    known = None
    while True:
        try:
            await asyncio.wait_for(store.ping(), _PING_TIMEOUT_SECONDS)
            status = health_pb2.HealthCheckResponse.SERVING
        except (StoreUnavailableError, TimeoutError):
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        if status != known:
            if known is not None:
                log.warning(
                    "Health has changed.",
                    health=health_pb2.HealthCheckResponse.ServingStatus.Name(status),
                )
            known = status
            for service in ("", SERVICE):
                await servicer.set(service, status)
        await asyncio.sleep(_PING_SECONDS)
