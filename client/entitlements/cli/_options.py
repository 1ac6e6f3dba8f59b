"""Options that both command lines have: `entitlements` and `entitlements-server`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from entitlements._version import __version__


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"entitlements {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version."),
]
"""`--version`: the command line and the server have one."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
"""`--json`, after the command or, with `json_for_command`, before it."""


def json_for_command(context: typer.Context, *, as_json: bool) -> None:
    """Hand a `--json` that came before the command to the command.

    Raises:
        typer.BadParameter: The command has no such option.
    """
    name = context.invoked_subcommand
    if not as_json or name is None:
        return
    group = context.command
    command = group.get_command(context, name)  # type: ignore[attr-defined]  # it is a group
    if command is not None and all(one.name != "as_json" for one in command.params):
        raise typer.BadParameter(f"The command '{name}' prints no JSON. Leave --json out.")
    context.default_map = {name: {"as_json": True}}


def parse_time(text: str) -> datetime:
    """Read a time, such as 2026-01-31T12:00Z or 2026-01-31. Without an offset it is UTC.

    Raises:
        typer.BadParameter: It is not a time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("Write a date, or a date and time: 2026-01-31T12:00Z.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
