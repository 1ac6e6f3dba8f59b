"""`entitlements-server serve`."""

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog
import typer
import uvloop

from entitlements_server.api.routes import SERVICE
from entitlements_server.app import running
from entitlements_server.cli.options import with_settings
from entitlements_server.config.callers import Caller, expired
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.settings import UNIX, Settings
from entitlements_server.config.sources import Configuration
from entitlements_server.instrumentation.logs import configure_logs
from entitlements_server.instrumentation.native_log import NativeLog, native_log
from entitlements_server.stores.urls import masked, scheme_of, secrets_of, sqlite_file
from entitlements_server.tuning.collector import tune_gc
from entitlements_server.tuning.processor import keep_on_one_processor
from entitlements_server.workers.link import WorkerLink, link_of_worker
from entitlements_server.workers.supervisor import FirstWorkerError, supervise

log = structlog.get_logger()


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


@with_settings(logs=True)
def serve(configuration: Configuration) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP reads catalogue, callers and certificates again."""
    settings = configuration.settings
    link = link_of_worker()
    if link is None and settings.workers > 1:
        _supervise(configuration)
        return
    with native_log() as native:
        fields = {"worker": link.assignment.index} if link is not None else {}
        configure_logs(settings.log_format, settings.log_level, secrets_of(settings.store), fields)
        if link is None:
            _warn(configuration)
        if configuration.sources["store"] == "default":
            _make_folder(settings.store)
        tune_gc()
        # Cheaper than asyncio's own loop: docs/performance.md.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(configuration, native, link))


def _supervise(configuration: Configuration) -> None:
    """Serve with several workers, each of which is this command in a process of its own."""
    settings = configuration.settings
    configure_logs(settings.log_format, settings.log_level, secrets_of(settings.store))
    _warn(configuration)

    def on_serving(address: str, catalogue_version: str, metrics_address: str) -> None:
        _announce(configuration, address, catalogue_version, metrics_address)

    try:
        asyncio.run(supervise(settings, on_serving, _announce_stop))
    except FirstWorkerError as error:
        # A worker that was killed has a negative status.
        raise typer.Exit(max(error.status, 1)) from error
    typer.echo("Stopped.")


async def _serve(configuration: Configuration, native: NativeLog, link: WorkerLink | None) -> None:
    """Serve in this process; as a worker at the address that its supervisor has reserved."""
    settings = configuration.settings
    if link is not None:
        settings = settings.model_copy(update={"listen": link.assignment.address})
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def reread() -> Sequence[Caller]:
        return _callers_again(configuration)

    async with running(
        settings,
        configuration.callers,
        reread if configuration.file else None,
        native,
        expose=link.expose if link is not None else None,
    ) as server:
        loop.add_signal_handler(signal.SIGHUP, server.reload)
        worker = link.assignment.index if link is not None else None
        # A pool of threads is left to the system: nobody has measured it on one processor.
        placed = settings.one_processor and server.transport == "completion-queue"
        placing = loop.create_task(keep_on_one_processor(worker)) if placed else None
        version = server.catalogue().version
        if link is None:
            _announce(configuration, server.address, version, server.metrics_address)
        else:
            link.serve(version, partial(_set_from_thread, loop, stop))
        await stop.wait()
        if link is None:
            _announce_stop()
        if placing is not None:
            placing.cancel()
    if link is None:
        typer.echo("Stopped.")


def _warn(configuration: Configuration) -> None:
    for warning in configuration.warnings:
        log.warning(warning)


def _set_from_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    # The loop is closed if this worker has stopped already.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)


def _announce(
    configuration: Configuration, address: str, catalogue_version: str, metrics_address: str
) -> None:
    """Print what an operator wants to know of a server that serves."""
    settings = configuration.settings
    lines = [f"Listening on {address}", f"Ledger in {_ledger(configuration)}"]
    lines.append(f"Catalogue version {catalogue_version}")
    if settings.workers > 1:
        lines.append(f"Workers: {settings.workers}")
    if metrics_address:
        lines.append(f"Metrics on http://{metrics_address}/metrics")
    lines.append(_try(settings, address, callers=bool(configuration.callers)))
    typer.echo("\n".join(lines))
    sys.stdout.flush()


def _announce_stop() -> None:
    typer.echo("Stopping: finishing the calls in flight.")


def _ledger(configuration: Configuration) -> str:
    """Return where the ledger is, with what may surprise about it."""
    store = configuration.settings.store
    if scheme_of(store) == "memory":
        return f"{store}, lost when this server stops"
    if configuration.sources["store"] == "default":
        return f"{store}, the default: --store puts it elsewhere"
    return masked(store)


def _make_folder(store: str) -> None:
    """Make the folder of the default ledger, for this account alone."""
    file = sqlite_file(store)
    assert file is not None
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {file.parent} for the ledger cannot be made ({error.strerror}): say with"
            " --store where the ledger is."
        ) from error


def _callers_again(started: Configuration) -> Sequence[Caller]:
    """Return the callers as the file has them now. Other settings that have changed are named in the log."""
    now = started.read_again()
    changed = [
        name
        for name in Settings.model_fields
        if getattr(now.settings, name) != getattr(started.settings, name)
    ]
    if changed:
        log.warning("Settings have changed that take effect at a restart.", settings=changed)
    for warning in expired(now.callers, time.time()):
        log.warning(warning)
    return now.callers


def _try(settings: Settings, address: str, *, callers: bool) -> str:
    security = "-plaintext"
    if settings.tls_certificate is not None:
        security = "-cacert CA.pem"
        if settings.tls_client_ca is not None:
            security += " -cert CLIENT.pem -key CLIENT-KEY.pem"
    token = " -H 'authorization: Bearer TOKEN'" if callers else ""
    return (
        f"Try: grpcurl {security}{token}"
        """ -d '{"user_id": "ada", "feature": "full_distribution"}'"""
        f" {'-unix ' * address.startswith(UNIX)}{address.removeprefix(UNIX)} {SERVICE}/CheckAccess"
    )
