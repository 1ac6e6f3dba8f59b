"""All commands of `entitlements-server`, and what they have in common."""

import sys

import typer

from entitlements.cli._options import Json, Version, json_for_command
from entitlements_server.cli import config, copy, health, maintenance, restore, serve, token
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.instrumentation.logs import configure_logs

app = typer.Typer(
    help="Token entitlements over gRPC. Tokens buy depth of analysis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for module in (serve, health, config, token, maintenance, copy, restore):
    module.add_to(app)


@app.callback()
def options(
    context: typer.Context,
    *,
    as_json: Json = False,
    version: Version = False,  # noqa: ARG001  # its callback has done it
) -> None:
    """Keep the options for the command that follows."""
    json_for_command(context, as_json=as_json)


def run() -> None:
    """Run the command line. The one place where an error becomes what the operator reads."""
    # Until a command says otherwise: what it prints is for programs, and logs go to standard error.
    configure_logs("console", "warning")
    try:
        app(prog_name="entitlements-server")
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
