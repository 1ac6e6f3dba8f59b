"""The command line `entitlements`: the calls of the API, under the same words."""

import sys

_EXTRA = {"click", "rich", "typer"}


def main() -> None:
    """Run the command line. Exit status 0: done, 1: denied, 2: failed."""
    try:
        from entitlements.cli._app import app  # noqa: PLC0415 - it needs what may not be there
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        sys.stderr.write(
            f"The command line needs the package {missing.name!r}: "
            "pip install 'entitlements[cli]'\n"
        )
        sys.exit(2)
    app()
