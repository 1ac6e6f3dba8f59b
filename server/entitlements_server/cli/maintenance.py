"""`entitlements-server backup`, `verify`, `export` and `stats`: looking after the data."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from entitlements_server.cli.options import with_settings
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.sources import Configuration
from entitlements_server.ledger.values import Kind, Status
from entitlements_server.maintenance.export import Export, Format
from entitlements_server.maintenance.rows import Filters
from entitlements_server.maintenance.snapshot import Snapshot, open_snapshot
from entitlements_server.maintenance.stats import stats as count
from entitlements_server.maintenance.verify import verify as check
from entitlements_server.stores.factory import ledger_backup
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import (
    DamagedRecordError,
    Finding,
    Progress,
    StoreUnavailableError,
)
from entitlements_server.stores.urls import masked

DOES_NOT_HOLD = 3
"""Exit status of `verify` when it has found something; 1 means that it could not look."""

_SHOWN = 100
_Result = TypeVar("_Result")
_MICROSECONDS = 1_000_000


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (backup, verify, export, stats):
        app.command()(command)


@with_settings("store")
def backup(
    configuration: Configuration,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Copy a SQLite ledger to FILE, consistently, while a server may be writing to it."""
    url = configuration.settings.store
    ledger = ledger_backup(url)
    if ledger is None:
        raise ConfigurationError(
            f"The store {masked(url)} is no SQLite file: Redis has backups of its own, and a"
            " ledger in memory is gone with its server."
        )
    with _bar("Copying", "pages") as progress:
        size = ledger.backup(file, replace=replace, progress=progress)
    typer.echo(f"Copied {ledger.path} to {file}: {size} bytes, on disk.")


@with_settings("store")
def verify(configuration: Configuration) -> None:
    """Check every account. Exit status: 0 all holds, 3 something does not, 1 could not look."""
    found, checked = _run(configuration, "Checking", _verify)
    findings = [one for one in found if not one.is_warning]
    warnings = [one for one in found if one.is_warning]
    for group, prefix in ((findings, ""), (warnings, "Warning: ")):
        for finding in group[:_SHOWN]:
            typer.echo(f"{prefix}{finding}")
        if len(group) > _SHOWN:
            typer.echo(f"… and {len(group) - _SHOWN} more.")
    if findings:
        typer.echo(f"{len(findings)} things do not hold.", err=True)
        raise typer.Exit(DOES_NOT_HOLD)
    typer.echo(f"All of it holds: {checked} transactions checked.")


@with_settings("store")
def export(
    configuration: Configuration,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the audit trail goes.")],
    *,
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an export that was broken off.")
    ] = False,
    user: Annotated[str, typer.Option(help="Only this user.")] = "",
    feature: Annotated[str, typer.Option(help="Only this feature.")] = "",
    kind: Annotated[str, typer.Option(help=f"Only one of {', '.join(Kind.__members__)}.")] = "",
    status: Annotated[str, typer.Option(help=f"Only {' or '.join(Status.__members__)}.")] = "",
    since: Annotated[str, typer.Option(help="Only from this time on, as 2026-01-31T00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Only before this time.")] = "",
) -> None:
    """Write the audit trail to FILE, each user's transactions oldest first."""
    formats: dict[str, Format] = {"jsonl": "jsonl", "csv": "csv"}
    if form not in formats:
        raise ConfigurationError("The value of --format is wrong: write jsonl or csv.")
    filters = Filters(
        user_id=user,
        feature=feature,
        kind=_member(Kind, "--kind", kind),
        status=_member(Status, "--status", status),
        since_us=_time_us("--since", since),
        until_us=_time_us("--until", until),
    )
    source = masked(configuration.settings.store)

    async def work(snapshot: Snapshot, progress: Progress) -> int:
        return await Export(snapshot.store, source, file, formats[form], filters, progress).run(
            resume=resume
        )

    rows = _run(configuration, "Exporting", work)
    typer.echo(f"{file} holds {rows} transactions.")


@with_settings("store")
def stats(
    configuration: Configuration,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what the ledger holds: accounts, transactions, tokens, charges, denials, size."""

    async def work(snapshot: Snapshot, progress: Progress) -> dict[str, Any]:
        found = (await count(snapshot.store, progress)).as_json()
        if snapshot.file is not None:
            found["file_bytes"] = snapshot.file.stat().st_size
        return found

    found = _run(configuration, "Counting", work)
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        title = name.replace("_", " ")
        if isinstance(value, dict):
            typer.echo(f"{title}:")
            for key, number in value.items():
                typer.echo(f"    {key:32} {number:>20,}")
        else:
            typer.echo(f"{title:36} {value:>20,}")


async def _verify(snapshot: Snapshot, progress: Progress) -> tuple[list[Finding], int]:
    findings: list[Finding] = []
    seen = 0

    def counting(done: int, total: int) -> None:
        nonlocal seen
        seen = total
        progress(done, total)

    async for finding in check(snapshot.store, counting, now_us=time.time_ns() // 1000):
        findings.append(finding)
        if len(findings) > _SHOWN * 100:
            break
    return findings, seen


def _run(
    configuration: Configuration,
    title: str,
    work: Callable[[Snapshot, Progress], Coroutine[Any, Any, _Result]],
) -> _Result:
    """Open the ledger and do something with it, under a progress bar."""
    url = configuration.settings.store

    async def run() -> _Result:
        with _bar(title, "transactions") as progress:
            async with open_snapshot(url) as snapshot:
                if snapshot.copied:
                    typer.echo(
                        "A server has this ledger open: reading a copy of this moment.", err=True
                    )
                return await work(snapshot, progress)

    try:
        return asyncio.run(run())
    except (DamagedRecordError, ForeignFormatError) as error:
        raise ConfigurationError(
            f"A record cannot be read, so nothing complete can be said of the ledger ({error}): run verify,"
            " which names all such records."
        ) from error
    except StoreUnavailableError as error:
        raise ConfigurationError(
            f"The store {masked(url)} cannot be reached: see that it runs, then try again."
        ) from error


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    """Show a progress bar on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _member(kind: Any, flag: str, value: str) -> Any:
    if not value:
        return None
    try:
        return kind[value.upper()]
    except KeyError as error:
        raise ConfigurationError(
            f"The value of {flag} is wrong: write one of {', '.join(kind.__members__)}."
        ) from error


def _time_us(flag: str, value: str) -> int | None:
    if not value:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise ConfigurationError(
            f"The value of {flag} is wrong: write a date and time, as 2026-01-31T00:00Z."
        ) from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(time.timestamp() * _MICROSECONDS)
