"""The command line of the server: `entitlements-server`."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from entitlements_server.catalogue_file import CatalogueFileError
from entitlements_server.copying import Copied, CopyError
from entitlements_server.copying import copy as copy_ledger
from entitlements_server.logs import configure_logs
from entitlements_server.server import ListenError, running
from entitlements_server.service.handlers import SERVICE
from entitlements_server.settings import Settings, SettingsError, read_settings
from entitlements_server.stores.opening import masked, open_store
from entitlements_server.stores.port import StoreConfigurationError, StoreUnavailableError

app = typer.Typer(
    help="Token entitlements over gRPC. Tokens buy depth of analysis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def entitlements_server() -> None:
    """Token entitlements over gRPC. Tokens buy depth of analysis."""


def _option(name: str) -> typer.models.OptionInfo:
    field = Settings.model_fields[name]
    default = "" if field.default is None else f" Default: {field.default}."
    variable = f"ENTITLEMENTS_{name.upper()}"
    option: typer.models.OptionInfo = typer.Option(
        f"--{name.replace('_', '-')}",
        help=f"{field.description}{default} Environment: {variable}.",
        show_default=False,
    )
    return option


@app.command()
def serve(
    *,
    listen: Annotated[str | None, _option("listen")] = None,
    store: Annotated[str | None, _option("store")] = None,
    catalogue: Annotated[Path | None, _option("catalogue")] = None,
    max_queued: Annotated[int | None, _option("max_queued")] = None,
    drain_seconds: Annotated[float | None, _option("drain_seconds")] = None,
    log_format: Annotated[str | None, _option("log_format")] = None,
    log_level: Annotated[str | None, _option("log_level")] = None,
) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP reads the catalogue file again."""
    try:
        settings = read_settings(
            listen=listen,
            store=store,
            catalogue=catalogue,
            max_queued=max_queued,
            drain_seconds=drain_seconds,
            log_format=log_format,
            log_level=log_level,
        )
        configure_logs(settings.log_format, settings.log_level)
        asyncio.run(_serve(settings))
    except (SettingsError, CatalogueFileError, StoreConfigurationError, ListenError) as error:
        _give_up(str(error))


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as server:
        loop.add_signal_handler(signal.SIGHUP, server.catalogue.reload)
        typer.echo(
            f"Listening on {server.address}\n"
            f"Ledger in {masked(settings.store)}\n"
            f"Catalogue version {server.catalogue().version}\n"
            "Try: grpcurl -plaintext"
            """ -d '{"user_id": "ada", "feature": "full_distribution"}'"""
            f" {server.address} {SERVICE}/CheckAccess"
        )
        await stop.wait()
        typer.echo("Stopping: finishing the calls in flight.")
    typer.echo("Stopped.")


@app.command()
def copy(
    *,
    source: Annotated[str, typer.Option("--from", help="The store's URL that has the ledger.")],
    target: Annotated[str, typer.Option("--to", help="The URL of an empty store.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a copy that was interrupted.")
    ] = False,
) -> None:
    """Copy a whole ledger to another store, and verify it. Stop the servers on it first."""
    configure_logs("console", "warning")
    try:
        copied = asyncio.run(_copy(source, target, resume=resume))
    except (CopyError, StoreConfigurationError) as error:
        _give_up(str(error))
    except StoreUnavailableError:
        _give_up("A store cannot be reached any more. Mend it, then copy again with --resume.")
    typer.echo(
        f"Copied {copied.appended:,} transactions. The target is the same as the source:"
        f" {copied.accounts:,} accounts, {copied.transactions:,} transactions,"
        f" {copied.balance:,} tokens."
    )


async def _copy(source_url: str, target_url: str, *, resume: bool) -> Copied:
    source = await open_store(source_url)
    try:
        target = await open_store(target_url)
        try:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            ) as progress:
                tasks: dict[str, TaskID] = {}

                def step(what: str, done: int, total: int) -> None:
                    if what not in tasks:
                        tasks[what] = progress.add_task(what, total=total)
                    progress.update(tasks[what], completed=done)

                return await copy_ledger(source, target, resume=resume, step=step)
        finally:
            await target.close()
    finally:
        await source.close()


def _give_up(problem: str) -> NoReturn:
    typer.echo(problem, err=True)
    raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()
