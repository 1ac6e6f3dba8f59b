"""The wiring: from settings to a server that serves, and back down again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from grpc_health.v1 import health

from entitlements_server.callers import Caller
from entitlements_server.catalogue_file import CatalogueInForce
from entitlements_server.engine import Engine
from entitlements_server.listener import Listener
from entitlements_server.metrics import Metrics, MetricsListenError
from entitlements_server.monitor import monitor, say_goodbye
from entitlements_server.observers import engine_observer, tracing_of
from entitlements_server.service.calls import Calls
from entitlements_server.service.gate import Gate
from entitlements_server.service.guard import Guard
from entitlements_server.service.handlers import SERVICE, service_routes
from entitlements_server.service.reflection import reflection_servicer
from entitlements_server.service.servicer import Servicer
from entitlements_server.service.standard import health_routes, reflection_routes
from entitlements_server.service.tasks import make_call_tasks
from entitlements_server.settings import Settings, SettingsError
from entitlements_server.stores.factory import open_store
from entitlements_server.tls import CertificateInForce
from entitlements_server.transport import (
    ListenError,
    certificate_of,
    require_safe,
)

log = structlog.get_logger()

Reread = Callable[[], Sequence[Caller]]
"""Reads the callers anew. May raise SettingsError."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that serves.

    Attributes:
        address: Where it listens, as HOST:PORT with the real port.
        metrics_address: Where its metrics are, likewise, or empty.
        catalogue: The catalogue in force.
        guard: Knows the callers.
        certificate: The TLS certificate in force, if there is one.
        metrics: What is measured, if anything is.
        reread: Reads the callers anew, if they come from a file.
    """

    address: str
    metrics_address: str
    catalogue: CatalogueInForce
    guard: Guard
    certificate: CertificateInForce | None
    metrics: Metrics | None
    reread: Reread | None

    def reload(self) -> None:
        """Read catalogue, callers and certificates again. What is broken leaves the old in force.

        Other settings need a restart.
        """
        taken = {"catalogue": self.catalogue.reload()}
        if self.reread is not None:
            taken["callers"] = self._reload_callers(self.reread)
        if self.certificate is not None:
            taken["certificate"] = self.certificate.reload()
        if self.metrics is not None:
            for what, was_taken in taken.items():
                self.metrics.reloaded(what, taken=was_taken)
            if self.certificate is not None:
                self.metrics.certificate_expires(self.certificate.expires_s)

    def _reload_callers(self, reread: Reread) -> bool:
        try:
            callers = reread()
        except SettingsError as error:
            problem = str(error)
        else:
            if callers or not self.guard.has_callers:
                self.guard.replace(callers)
                log.info("The callers were read again.", callers=len(callers))
                return True
            problem = "There are none left, which would let everyone in: that takes a restart."
        log.warning("The new callers were not taken; the old ones stay in force.", reason=problem)
        return False


@asynccontextmanager
async def running(
    settings: Settings, callers: Sequence[Caller] = (), reread: Reread | None = None
) -> AsyncIterator[RunningServer]:
    """Serve while the block runs; then finish what is in flight and close the store.

    Args:
        settings: How.
        callers: Who may call; none: everyone.
        reread: Reads the callers anew, for `reload`.

    Raises:
        SettingsError: Traces are wanted and the extra for them is not installed.
        CatalogueFileError: The catalogue file is none.
        StoreConfigurationError: The store cannot be opened.
        ListenError: The address cannot or must not be listened on.
    """
    require_safe(settings, callers)
    make_call_tasks(asyncio.get_running_loop())
    certificate = certificate_of(settings)
    catalogue = CatalogueInForce(settings.catalogue)
    metrics = Metrics() if settings.metrics_listen else None
    async with AsyncExitStack() as stack:
        tracing = tracing_of(settings)
        if tracing is not None:
            stack.callback(tracing.close)
        store = await open_store(settings.store)
        stack.push_async_callback(store.close)
        engine = Engine(
            store,
            catalogue,
            max_queued=settings.max_queued,
            observer=engine_observer(metrics, tracing),
        )
        calls = Calls(metrics, tracing, log_calls=settings.log_calls)
        guard = Guard(callers, rate=settings.rate, burst=settings.burst)
        health_servicer = health.aio.HealthServicer()
        routes = {
            **service_routes(Servicer(engine, store, catalogue)),
            **health_routes(health_servicer),
            **reflection_routes(
                reflection_servicer((SERVICE, health.SERVICE_NAME)), settings.reflection
            ),
        }
        gate = Gate(routes, guard, calls, max_in_flight=settings.max_in_flight)
        metrics_address = ""
        if metrics is not None and settings.metrics_listen is not None:
            metrics.watch(queue_depth=lambda: engine.queued, in_flight=lambda: calls.in_flight)
            metrics.certificate_expires(certificate.expires_s if certificate else 0)
            try:
                metrics_address = stack.enter_context(metrics.served(settings.metrics_listen))
            except MetricsListenError as error:
                raise ListenError(str(error)) from error
        listener = Listener(gate, settings, certificate)
        address = await listener.start()
        tell = metrics.store_is_up if metrics is not None else lambda _: None
        watching = asyncio.create_task(monitor(store, health_servicer, ("", SERVICE), tell))
        log.info("The server has started.", address=address, tls=certificate is not None)
        try:
            yield RunningServer(
                address, metrics_address, catalogue, guard, certificate, metrics, reread
            )
        finally:
            log.info("The server is stopping.")
            watching.cancel()
            await say_goodbye(health_servicer)
            await gate.leave()
            await listener.stop()
            await engine.close()
