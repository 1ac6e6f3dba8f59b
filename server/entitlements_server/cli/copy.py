"""`entitlements-server copy`."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from entitlements_server.config.errors import ConfigurationError
from entitlements_server.instrumentation.logs import configure_logs
from entitlements_server.maintenance.copy import Copied
from entitlements_server.maintenance.copy import copy as copy_ledger
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import DamagedRecordError, StoreUnavailableError
from entitlements_server.stores.interface import Progress as LedgerProgress


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(copy)


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
    except (DamagedRecordError, ForeignFormatError) as error:
        raise ConfigurationError(
            f"A record cannot be read, so the copy is not complete ({error}): run verify on the source and"
            " the target, repair what it names, then copy again with --resume."
        ) from error
    except StoreUnavailableError as error:
        raise ConfigurationError(
            "A store cannot be reached any more. Mend it, then copy again with --resume."
        ) from error
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
                return await copy_ledger(
                    source,
                    target,
                    resume=resume,
                    copying=_bar(progress, "copying"),
                    verifying=_bar(progress, "verifying"),
                )
        finally:
            await target.close()
    finally:
        await source.close()


def _bar(bars: Progress, title: str) -> LedgerProgress:
    task = bars.add_task(title, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)
