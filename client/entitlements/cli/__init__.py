"""The command line `entitlements`, for people who ask, charge, refund and top up.

| module | contents |
|---|---|
| `_app.py` | the commands |
| `_arguments.py` | periods and labels |
| `_options.py` | options that the server's command line has, too |
| `_session.py` | from options to a client, and from errors to an exit status |
| `_show.py` | tables and sentences for people, JSON for programs |
"""

import sys

_EXTRA = {"click", "rich", "typer"}


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 denied, 2 failed."""
    try:
        from entitlements.cli._app import app  # noqa: PLC0415 - its packages may be missing
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        sys.stderr.write(
            f"The command line needs the package {missing.name!r}. "
            "Install entitlements with the extra 'cli'.\n"
        )
        sys.exit(2)
    app(prog_name="entitlements")
