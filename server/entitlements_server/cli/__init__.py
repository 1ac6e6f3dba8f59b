"""The command line of the server: `entitlements-server`.

| module | contents |
|---|---|
| `serve.py` | serve until a signal |
| `config.py` | print the settings in force |
| `token.py` | make tokens for callers |
| `maintenance.py`, `copy.py` | verify, export, back up, copy a ledger |
| `restore.py` | put a backup in place |
| `options.py` | settings as options |
"""

import sys

import typer

from entitlements_server.cli import config, copy, maintenance, restore, serve, token
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.instrumentation.logs import configure_logs

app = typer.Typer(
    help="Token entitlements over gRPC. Tokens buy depth of analysis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Hidden for lack of use: each shell's completion is two more lines of help.
    add_completion=False,
)
serve.add_to(app)
config.add_to(app)
token.add_to(app)
maintenance.add_to(app)
copy.add_to(app)
restore.add_to(app)


def main() -> None:
    """Run the command line. The one place where an error becomes what the operator reads."""
    # Until a command says otherwise: what it prints is for programs, and logs go to standard error.
    configure_logs("console", "warning")
    try:
        app()
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
