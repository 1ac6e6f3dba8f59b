"""`entitlements-server backup`, `verify`, `export` and `stats`: looking after the data."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
