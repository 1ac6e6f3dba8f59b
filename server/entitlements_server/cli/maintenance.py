"""`entitlements-server backup`, `verify`, `checkpoint`, `export` and `stats`."""

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from entitlements_server.cli.interruption import ends_as_on_interrupt
from entitlements_server.cli.options import with_settings
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.config.sources import Configuration
from entitlements_server.ledger.values import Kind, Status
from entitlements_server.maintenance.checkpoint import Checkpoint, Taken, heads_file, take
from entitlements_server.maintenance.export import Export, ExportError, Format
from entitlements_server.maintenance.report import Report, report
from entitlements_server.maintenance.rows import Filters
from entitlements_server.maintenance.snapshot import Snapshot, open_snapshot
from entitlements_server.maintenance.stats import stats as count
from entitlements_server.maintenance.verify import NO_WITNESS
from entitlements_server.stores.factory import ledger_backup
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import (
    DamagedRecordError,
    LedgerIdentity,
    Progress,
    Store,
    StoreUnavailableError,
)
from entitlements_server.stores.urls import masked

DOES_NOT_HOLD = 3
"""Exit status of `verify` when it has found something; 1 means that it could not look."""

NAMESPACE = "entitlements-checkpoint"
"""The namespace of signatures, so that one of a checkpoint is good for nothing else."""

_SHOWN = 100
_Result = TypeVar("_Result")
_MICROSECONDS = 1_000_000


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (backup, verify, checkpoint, export, stats):
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
    if _is_standard_output(file):
        raise ConfigurationError("A backup cannot go to standard output: name a file.")
    url = configuration.settings.store
    ledger = ledger_backup(url)
    if ledger is None:
        raise ConfigurationError(
            f"The store {masked(url)} is no SQLite file: Redis has backups of its own, and a"
            " ledger in memory is gone with its server."
        )
    with progress_bar("Copying", "pages") as progress, ends_as_on_interrupt():
        size = ledger.backup(file, replace=replace, progress=progress)
    typer.echo(f"Copied {ledger.path} to {file}: {size} bytes, on disk.")


@with_settings("store")
def verify(
    configuration: Configuration,
    *,
    against: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="Compare with this checkpoint as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every account. Exit status: 0 all holds, 3 something does not, 1 could not look."""
    with Checkpoint.open(against) if against else nullcontext() as earlier:

        async def work(snapshot: Snapshot, progress: Progress) -> tuple[Report, LedgerIdentity]:
            identity = await _identity_of(snapshot.store)
            witness = earlier.comparison(identity) if earlier else NO_WITNESS
            now_us = time.time_ns() // 1000
            return await report(snapshot.store, progress, witness, now_us=now_us), identity

        found, identity = _run(configuration, "Checking", work)
        if as_json:
            compared = earlier and earlier.as_json()
            content = found.as_json() | {"ledger": asdict(identity), "against": compared}
            typer.echo(json.dumps(content))
        else:
            _show(found)
            if found.holds and earlier:
                _show_agreement(earlier, identity)
    if not found.holds:
        raise typer.Exit(DOES_NOT_HOLD)


@with_settings("store")
def checkpoint(
    configuration: Configuration,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the header goes.")],
    *,
    previous: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="The one before: it must still hold."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every account, and write FILE and FILE.heads: what the ledger contains, to be signed."""
    if _is_standard_output(file):
        raise ConfigurationError("A checkpoint is two files: name a file, not standard output.")
    with Checkpoint.open(previous) if previous else nullcontext() as earlier:

        async def work(snapshot: Snapshot, progress: Progress) -> Taken:
            return await take(snapshot.store, file, previous=earlier, progress=progress)

        taken = _run(configuration, "Checking", work)
    if as_json:
        header = msgspec.to_builtins(taken.header)
        content = {"checkpoint": header, "sha256": taken.digest}
        typer.echo(json.dumps(taken.report.as_json() | content))
    else:
        _show(taken.report)
        if taken.header is not None:
            _show_checkpoint(file, taken)
    if not taken.report.holds:
        if not as_json:
            typer.echo("No checkpoint was written.", err=True)
        raise typer.Exit(DOES_NOT_HOLD)


@with_settings("store")
def export(
    configuration: Configuration,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the audit trail goes. -: standard output.")
    ],
    *,
    form: Annotated[str, typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="In CSV, write texts exactly as stored. A spreadsheet runs some as formulas.",
        ),
    ] = False,
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

    if _is_standard_output(file) and resume:
        raise ConfigurationError(
            "An export to standard output cannot be resumed: name a file, or leave out --resume."
        )

    async def work(snapshot: Snapshot, progress: Progress) -> int:
        trail = Export(snapshot.store, source, file, formats[form], filters, progress, exact)
        if _is_standard_output(file):
            return await trail.write_to(sys.stdout.buffer)
        return await trail.run(resume=resume)

    try:
        rows = _run(configuration, "Exporting", work)
    except OSError as error:
        # A reader that has seen enough, or a full disk.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # to the end
        raise ExportError(
            f"Standard output cannot be written: {error.strerror}. The export is not complete."
        ) from error
    typer.echo(f"{file} holds {rows} transactions.", err=_is_standard_output(file))


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


def _is_standard_output(file: Path) -> bool:
    return str(file) == "-"


async def _identity_of(store: Store) -> LedgerIdentity:
    """Return the identity of a ledger, or one that no ledger has: verify then reports it."""
    try:
        return await store.identity()
    except DamagedRecordError:
        return LedgerIdentity("", 0)


def _show(found: Report) -> None:
    """Print what verify found."""
    for findings, prefix in ((found.findings, ""), (found.warnings, "Warning: ")):
        for finding in findings[:_SHOWN]:
            typer.echo(f"{prefix}{finding}")
        if len(findings) > _SHOWN:
            typer.echo(f"… and {len(findings) - _SHOWN} more.")
    if found.holds:
        typer.echo(f"All of it holds: {found.transactions} transactions checked.")
        return
    more = "" if found.is_complete else " The rest was not checked."
    typer.echo(f"{len(found.findings)} things do not hold.{more}", err=True)


def _show_agreement(earlier: Checkpoint, identity: LedgerIdentity) -> None:
    header = earlier.header
    typer.echo(
        f"The ledger still contains what it contained at {header.create_time}:"
        f" {header.transactions} transactions of {header.accounts} users.\n"
        f"SHA-256 of the checkpoint: {earlier.digest}"
    )
    if identity.generation > header.generation:
        typer.echo(
            f"It was restored or copied since then: its generation is {identity.generation} and was"
            f" {header.generation}."
        )


def _show_checkpoint(file: Path, taken: Taken) -> None:
    header = taken.header
    assert header is not None
    typer.echo(
        f"The checkpoint is in {file} and {heads_file(file)}: {header.transactions} transactions of"
        f" {header.accounts} users, {header.tokens} tokens.\n"
        f"SHA-256 of {file}: {taken.digest}\n"
        f"Sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY {shlex.quote(str(file))}"
    )


def _run(
    configuration: Configuration,
    title: str,
    work: Callable[[Snapshot, Progress], Coroutine[Any, Any, _Result]],
) -> _Result:
    """Open the ledger and do something with it, under a progress bar."""
    url = configuration.settings.store

    async def run() -> _Result:
        with progress_bar(title, "transactions") as progress:
            async with open_snapshot(url) as snapshot:
                if snapshot.copied:
                    typer.echo(
                        "A server has this ledger open, or it cannot be written:"
                        " reading a copy of this moment.",
                        err=True,
                    )
                return await work(snapshot, progress)

    try:
        with ends_as_on_interrupt():
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
def progress_bar(title: str, unit: str) -> Iterator[Progress]:
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
