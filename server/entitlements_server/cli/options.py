"""Options that are settings: each is declared once, in the settings model."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from entitlements_server.config.settings import ENVIRONMENT_PREFIX, Settings
from entitlements_server.config.sources import flag_of, read_configuration

Taker = Callable[..., None]
"""A command whose first argument is the configuration."""


def with_settings(*names: str, logs: bool = False) -> Callable[[Taker], Taker]:
    """Give a command the options of some settings, and hand it the configuration.

    Args:
        names: Of the settings that the command has as options; none: all of them. `--config` is
            always there. Settings without an option still come from the environment and file.
        logs: Whether the command logs the configuration's warnings itself; otherwise they are printed on
            standard error.
    """

    def decorate(command: Taker) -> Taker:
        chosen = names or tuple(Settings.model_fields)
        own = list(inspect.signature(command).parameters.values())[1:]
        own_names = [parameter.name for parameter in own]

        def run(**values: Any) -> None:
            arguments = {name: values.pop(name) for name in own_names}
            configuration = read_configuration(values.pop("config"), **values)
            for warning in () if logs else configuration.warnings:
                typer.echo(warning, err=True)
            command(configuration, **arguments)

        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in (("config", _CONFIG), *((name, _option(name)) for name in chosen))
        ]
        positional = [one for one in own if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        keyword = [one for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY]
        parameters = [*positional, *keyword, *options]
        run.__name__ = command.__name__
        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _option(name: str) -> Any:
    field = Settings.model_fields[name]
    value = field.get_default(call_default_factory=True)
    default = "" if value is None else f" Default: {value}."
    is_switch = field.annotation is bool
    option = typer.Option(
        f"{flag_of(name)}/--no-{flag_of(name)[2:]}" if is_switch else flag_of(name),
        help=f"{field.description}{default} Environment: {ENVIRONMENT_PREFIX}{name.upper()}.",
        show_default=False,
    )
    # Other types are left to the settings model, whose messages are sentences.
    kind: Any = bool if is_switch else str
    return Annotated[kind | None, option]


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help=f"A TOML file of settings and callers. Environment: {ENVIRONMENT_PREFIX}CONFIG.",
        show_default=False,
    ),
]
