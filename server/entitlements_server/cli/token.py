"""`entitlements-server token`: credentials for callers."""

import typer

from entitlements_server.config.callers import new_token, token_hash

tokens = typer.Typer(help="Bearer tokens of callers.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(tokens, name="token")


@tokens.callback()
def token() -> None:
    """Bearer tokens of callers."""


@tokens.command()
def new() -> None:
    """Make a token: shown once, on standard output; what to store is on standard error."""
    made = new_token()
    typer.echo(made)
    typer.echo(
        "\nGive this token to the caller now: it is not shown again. In the configuration file the"
        f' caller gets\n\n    token_sha256 = "{token_hash(made).hex()}"\n',
        err=True,
    )
