"""`entitlements-server config`: the settings in force, without their secrets."""

from datetime import UTC, datetime
from typing import Any

import typer

from entitlements_server.cli.options import with_settings
from entitlements_server.config.callers import Caller
from entitlements_server.config.sources import Configuration
from entitlements_server.stores.urls import masked


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(config)


@with_settings()
def config(configuration: Configuration) -> None:
    """Print the effective settings and callers, and where each setting comes from."""
    values = configuration.settings.model_dump(mode="json")
    values["store"] = masked(values["store"])
    if values["trace_to"] is not None:
        values["trace_to"] = masked(values["trace_to"])
    lines = [f"# file: {configuration.file or 'none'}"]
    for name, value in values.items():
        source = configuration.sources[name]
        # TOML has no null: an unset setting is shown, but commented out.
        lines.append(
            f"# {name} is not set" if value is None else f"{name} = {_toml(value)}  # {source}"
        )
    for caller in configuration.callers:
        lines += ["", "[[callers]]", *_caller(caller)]
    typer.echo("\n".join(lines))


def _caller(caller: Caller) -> list[str]:
    lines = [f"name = {_toml(caller.name)}", f"roles = {_toml(sorted(caller.roles))}"]
    if caller.token_hashes:
        # Enough to tell which one it is.
        lines.append(f"# token_sha256 = {[f'{one.hex()[:8]}***' for one in caller.token_hashes]}")
    if caller.certificate:
        lines.append(f"certificate = {_toml(caller.certificate)}")
    if caller.expires_s is not None:
        lines.append(f"expires = {datetime.fromtimestamp(caller.expires_s, UTC).isoformat()}")
    if caller.rate is not None:
        lines.append(f"rate = {caller.rate}")
    if caller.burst is not None:
        lines.append(f"burst = {caller.burst}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)
