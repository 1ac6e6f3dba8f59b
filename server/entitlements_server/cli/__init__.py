"""The command line of the server: `entitlements-server`.

| module | contents |
|---|---|
| `commands.py` | all commands together |
| `serve.py` | serve until a signal |
| `health.py` | ask a running server for its health |
| `config.py` | print the settings in force |
| `token.py` | make tokens for callers |
| `maintenance.py`, `copy.py` | verify, export, back up, copy a ledger |
| `restore.py` | put a backup in place |
| `interruption.py` | end a command on a signal, without leaving files |
| `options.py` | settings as options |
"""

import io
import sys


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What an encoding lacks must not change the exit status.
            stream.reconfigure(errors="replace")
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
