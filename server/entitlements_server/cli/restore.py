"""`entitlements-server restore`."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from entitlements_server.cli.interruption import ends_as_on_interrupt
from entitlements_server.cli.maintenance import DOES_NOT_HOLD, progress_bar
from entitlements_server.cli.options import with_settings
from entitlements_server.config.sources import Configuration
from entitlements_server.maintenance.restore import DamagedBackupError
from entitlements_server.maintenance.restore import restore as restore_ledger
from entitlements_server.stores.urls import masked

_MICROSECONDS = 1_000_000


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(restore)


@with_settings("store")
def restore(
    configuration: Configuration,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    *,
    other: Annotated[
        bool, typer.Option("--other", help="Replace a ledger that the backup is not of.")
    ] = False,
) -> None:
    """Put the backup FILE in the place of a SQLite ledger. Stop its server first.

    Exit status: 0 done, 3 the backup is damaged, 1 it could not be done. Only 0 changes the ledger.
    """
    url = configuration.settings.store
    try:
        with progress_bar("Checking", "transactions") as progress, ends_as_on_interrupt():
            restored = asyncio.run(restore_ledger(url, file, progress, other=other))
    except DamagedBackupError as error:
        for finding in error.findings:
            typer.echo(str(finding))
        typer.echo(str(error), err=True)
        raise typer.Exit(DOES_NOT_HOLD) from error
    identity = restored.identity
    lines = [
        (
            f"Restored {file} to {masked(url)}: {restored.accounts:,} accounts,"
            f" {restored.transactions:,} transactions. Ledger {identity.id}, generation"
            f" {identity.generation}."
        ),
        _lost(restored.newest_us),
    ]
    if restored.replaced is not None:
        lines.append(
            f"What was there is {restored.replaced} now, with its write-ahead log if it has one. Delete"
            " it only when nothing in it is needed."
        )
    typer.echo("\n".join(lines))


def _lost(newest_us: int) -> str:
    if not newest_us:
        return (
            "It has no transactions: all that was recorded before is lost, and every key is free."
        )
    newest = datetime.fromtimestamp(newest_us / _MICROSECONDS, UTC)
    return (
        f"Its newest transaction is of {newest:%Y-%m-%dT%H:%M:%SZ}. What was recorded since then is lost,"
        " and the idempotency keys used since then are free again: a retry with one of them charges."
    )
