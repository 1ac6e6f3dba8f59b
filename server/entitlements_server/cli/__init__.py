"""The command line of the server: `entitlements-server`.

| module | contents |
|---|---|
| `commands.py` | all commands together |
| `serve.py` | serve until a signal |
| `config.py` | print the settings in force |
| `token.py` | make tokens for callers |
| `maintenance.py`, `copy.py` | verify, export, back up, copy a ledger |
| `restore.py` | put a backup in place |
| `options.py` | settings as options |
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from entitlements_server.cli.commands import run  # noqa: PLC0415  # its packages may be missing
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("entitlements"):
            raise
        sys.exit(
            f"The server needs the package {missing.name!r}. "
            "Install entitlements with the extra 'server'."
        )
    run()
