"""The wiring: from settings to a running server, and its orderly shutdown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from entitlements_server.api.admission import Bounds
from entitlements_server.api.auth import Auth
from entitlements_server.api.dispatcher import Dispatcher
from entitlements_server.api.health import SERVICE as HEALTH
from entitlements_server.api.health import Health, monitor
from entitlements_server.api.reflection import reflection_routes
from entitlements_server.api.reporter import Reporter
from entitlements_server.api.routes import SERVICE, service_routes
from entitlements_server.api.servicer import Servicer
from entitlements_server.config.callers import Caller, require_possible
from entitlements_server.config.catalogue import ReloadableCatalogue
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.settings import Settings
from entitlements_server.engine.clock import GivenClock, clock_of, warn_of_future
from entitlements_server.engine.engine import Engine
from entitlements_server.engine.handover import Handover
from entitlements_server.engine.sweeper import Sweeper
from entitlements_server.instrumentation import engine_observer, tracing_of
from entitlements_server.instrumentation.metrics import Metrics, exposed
from entitlements_server.instrumentation.native_log import NativeLog
from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.terms import Choices
from entitlements_server.stores.alerts import Alerts
from entitlements_server.stores.factory import open_store
from entitlements_server.transport.address import require_safe
from entitlements_server.transport.factory import open_transport
from entitlements_server.transport.options import Limits
from entitlements_server.transport.tls import ReloadableCertificate, TlsFiles

log = structlog.get_logger()

Reread = Callable[[], Sequence[Caller]]
"""Reads the callers again. May raise ConfigurationError."""

Expose = Callable[[CollectorRegistry, Callable[[], bool]], AbstractContextManager[str]]
"""Serves metrics, and whether the server is SERVING, while the block runs. Yields the address."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server.

    Attributes:
        transport: Name of the transport that serves.
        address: The address it listens on, as HOST:PORT with the actual port, or unix:/PATH.
        metrics_address: The address of its metrics, or empty.
        catalogue: The current catalogue.
        auth: The authentication of callers.
        certificate: The current TLS certificate, if there is one.
        metrics: The metrics, if they are served.
        reread: Reads the callers again, if they come from a file.
        client_certificates: Whether clients show certificates.
    """

    transport: str
    address: str
    metrics_address: str
    catalogue: ReloadableCatalogue
    auth: Auth
    certificate: ReloadableCertificate | None
    metrics: Metrics | None
    reread: Reread | None
    client_certificates: bool

    def reload(self) -> None:
        """Reload catalogue, callers and certificate. If a file is rejected, the old contents stay in use.

        Other settings need a restart.
        """
        accepted = {"catalogue": self.catalogue.reload()}
        if self.reread is not None:
            accepted["callers"] = self._reload_callers(self.reread)
        if self.certificate is not None:
            accepted["certificate"] = self.certificate.reload()
        if self.metrics is not None:
            for what, was_accepted in accepted.items():
                self.metrics.reloaded(what, accepted=was_accepted)
            if self.certificate is not None:
                self.metrics.certificate_expires(self.certificate.expires_s)

    def _reload_callers(self, reread: Reread) -> bool:
        try:
            callers = reread()
            require_possible(callers, client_certificates=self.client_certificates)
        except ConfigurationError as error:
            problem = str(error)
        else:
            if callers or not self.auth.has_callers:
                self.auth.replace(callers)
                log.info("The callers were reloaded.", callers=len(callers))
                return True
            problem = "No callers are left, which would let everyone in. That requires a restart."
        log.warning("The new callers were rejected; the old ones stay in use.", reason=problem)
        return False


@asynccontextmanager
async def running(
    settings: Settings,
    callers: Sequence[Caller] = (),
    reread: Reread | None = None,
    native: NativeLog | None = None,
    *,
    built_in: Catalogue = BUILT_IN,
    clock_us: Callable[[], int] | None = None,
    expose: Expose | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve while the block runs; then finish calls in flight and close the store.

    Args:
        settings: The settings.
        callers: The callers; if there are none, everyone may call.
        reread: Reads the callers again, for `reload`.
        native: The log of gRPC's core, which reports failed handshakes.
        built_in: The catalogue, unless the settings name a file.
        clock_us: The time, microseconds since 1970 UTC, which is trusted; None: that of the machine, or of
            a store that several servers share.
        expose: Takes the metrics, if they are to be served; None: they are served at `metrics_listen`.

    Raises:
        ConfigurationError: A setting cannot be used: an address, a file, the store, an extra.
    """
    files = TlsFiles.of(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    if not settings.insecure:
        require_safe(settings.listen, tls=files is not None, callers=bool(callers))
    client_certificates = settings.tls_client_ca is not None
    require_possible(callers, client_certificates=client_certificates)
    certificate = ReloadableCertificate(files) if files is not None else None
    catalogue = ReloadableCatalogue(settings.catalogue, built_in)
    metrics = Metrics() if settings.metrics_listen else None
    async with AsyncExitStack() as stack:
        tracing = tracing_of(settings.trace_to)
        if tracing is not None:
            stack.callback(tracing.close)
        store = await open_store(settings.store)
        stack.push_async_callback(store.close)
        clock = GivenClock(clock_us) if clock_us is not None else await clock_of(store)
        await warn_of_future(store, clock)
        alerts = Alerts()
        engine = Engine(
            store,
            catalogue,
            max_queued=settings.max_queued,
            clock_us=clock.decision_us,
            choices=_choices(settings),
            observer=engine_observer(metrics, tracing),
            alerts=alerts,
        )
        sweeper = Sweeper(store, engine, clock.now_us)
        auth = Auth(callers, rate=settings.rate, burst=settings.burst)
        health = Health(("", SERVICE))
        dispatcher = Dispatcher(
            {
                **service_routes(
                    Servicer(store, catalogue, clock.now_us, require_keys=settings.require_keys)
                ),
                **health.routes(),
                **reflection_routes((SERVICE, HEALTH), settings.reflection),
            },
            auth,
            engine,
            Reporter(metrics, tracing, alerts=alerts, log_calls=settings.log_calls),
            _bounds(settings),
            to_loop=Handover(asyncio.get_running_loop(), _call),
        )
        metrics_address = ""
        if metrics is not None and settings.metrics_listen is not None:
            metrics.watch(
                queue_depth=lambda: engine.queued,
                in_flight=lambda: dispatcher.in_flight,
                sweep_lag_s=lambda: sweeper.lag_s,
            )
            metrics.certificate_expires(certificate.expires_s if certificate else 0)
            if native is not None:
                native.on_handshake_failure = metrics.handshake_failed
            expose = expose or partial(exposed, settings.metrics_listen)
            metrics_address = stack.enter_context(expose(metrics.registry, lambda: health.serving))
        transport = await open_transport(
            settings.transport,
            dispatcher,
            settings.listen,
            certificate.credentials() if certificate else None,
            _limits(settings),
        )
        report = metrics.store_is_up if metrics is not None else lambda _: None
        tasks = (
            asyncio.create_task(monitor(store, health, report, lambda: clock.problem)),
            asyncio.create_task(sweeper.run()),
            asyncio.create_task(clock.run()),
        )
        log.info(
            "The server has started.",
            address=transport.address,
            transport=transport.name,
            tls=certificate is not None,
        )
        try:
            yield RunningServer(
                transport.name,
                transport.address,
                metrics_address,
                catalogue,
                auth,
                certificate,
                metrics,
                reread,
                client_certificates,
            )
        finally:
            log.info("The server is stopping.")
            for task in tasks:
                task.cancel()
            health.leave()
            dispatcher.leave()
            await transport.stop(settings.drain_seconds)
            await engine.close()


def _choices(settings: Settings) -> Choices:
    return Choices(
        refund_grace_us=settings.refund_grace_seconds * SECOND_US,
        max_denials=settings.max_recorded_denials,
    )


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        max_in_flight=settings.max_in_flight,
        max_streaming=settings.max_streaming,
        max_streaming_per_connection=settings.max_streaming_per_connection,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_connections=settings.max_connections,
        max_streams=settings.max_streams,
        connection_age_s=settings.connection_age_seconds,
        connection_grace_s=settings.drain_seconds,
        request_timeout_s=settings.request_timeout_seconds,
        max_unsent_bytes=settings.max_unsent_bytes,
        max_unsent_bytes_per_connection=settings.max_unsent_bytes_per_connection,
        shares_port=settings.workers > 1,
    )


def _call(function: Callable[[], None]) -> None:
    function()
