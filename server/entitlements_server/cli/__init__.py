"""The command line of the server: `entitlements-server`.

| module | contents |
|---|---|
| `serve.py` | serve until a signal |
| `health.py` | ask a running server for its health |
| `config.py` | print the settings in force |
| `token.py` | make tokens for callers |
| `maintenance.py`, `copy.py` | verify, export, back up, copy a ledger |
| `options.py` | settings as options |
"""

import io
import sys

import typer

from entitlements_server.cli import config, copy, health, maintenance, serve, token
from entitlements_server.config.errors import ConfigurationError

app = typer.Typer(
    help="Token entitlements over gRPC. Tokens buy depth of analysis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Hidden for lack of use: each shell's completion is two more lines of help.
    add_completion=False,
)
serve.add_to(app)
health.add_to(app)
config.add_to(app)
token.add_to(app)
maintenance.add_to(app)
copy.add_to(app)


def main() -> None:
    """Run the command line. The one place where an error becomes what the operator reads."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What an encoding lacks must not change the exit status.
            stream.reconfigure(errors="replace")
    try:
        app()
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)
