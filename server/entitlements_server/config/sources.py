"""Where the configuration comes from: flag over environment over file over default."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from entitlements_server.config.callers import Caller, CallersError, read_callers
from entitlements_server.config.settings import ENVIRONMENT_PREFIX, Settings, SettingsError
from entitlements_server.config.tables import read_toml

_OTHERS = re.compile(
    # What the client's command line reads.
    r"CONFIG|ADDRESS|TOKEN|ROOT_CERTIFICATES|CLIENT_CERTIFICATE|CLIENT_KEY"
    # What Kubernetes puts into a pod for each service, here for one that is named after this program.
    r"|(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_.*)?)"
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole configuration of a server.

    Attributes:
        settings: The settings in force.
        callers: Who may call; empty: anyone, as nobody.
        file: The configuration file, or None.
        sources: Where each setting came from: flag, environment, file or default.
        warnings: A sentence for each variable that looks like a setting and is none.
        flags: The values from the command line.
    """

    settings: Settings
    callers: tuple[Caller, ...]
    file: Path | None
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    flags: Mapping[str, Any]

    def read_again(self) -> "Configuration":
        """Return what the same file, environment and flags say now.

        Raises:
            SettingsError: A value is wrong.
        """
        return read_configuration(self.file, **self.flags)


def flag_of(name: str) -> str:
    """Return the flag of a setting: `max_queued` is `--max-queued`."""
    return f"--{name.replace('_', '-')}"


def read_configuration(file: Path | None = None, **flags: Any) -> Configuration:
    """Put the settings together; a flag that is None was not given.

    Args:
        file: The configuration file; None: the one that the environment names, if any.
        flags: Values from the command line, by the names of the settings.

    Raises:
        SettingsError: A value is wrong.
    """
    variables = dict(_variables())
    if file is None and "CONFIG" in variables:
        file = Path(os.environ[variables["CONFIG"]])
    given = {name: value for name, value in flags.items() if value is not None}
    content = read_toml(file, "The configuration", SettingsError) if file else {}
    tables = content.pop("callers", [])
    for name in content:
        if name not in Settings.model_fields:
            raise SettingsError(
                f"The configuration {file} has '{name}', which is no setting:"
                " `entitlements-server config` lists those there are."
            )
    in_environment = {name for name in Settings.model_fields if name.upper() in variables}
    # The last one that has a setting gives it.
    sources = dict.fromkeys(Settings.model_fields, "default")
    sources |= dict.fromkeys(content, "file")
    sources |= dict.fromkeys(in_environment, "environment")
    sources |= dict.fromkeys(given, "flag")
    try:
        settings = _above(content)(**given)
        callers = read_callers(tables)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise SettingsError(
            "\n".join(_sentence(problem, sources, file) for problem in problems)
        ) from error
    except CallersError as error:
        raise SettingsError(f"The configuration {file}: {error}") from error
    warnings = tuple(
        f"The variable {variable} is no setting and has no effect: `entitlements-server config` lists"
        " those there are."
        for name, variable in sorted(variables.items())
        if name.lower() not in Settings.model_fields and not _OTHERS.fullmatch(name)
    )
    return Configuration(settings, callers, file, sources, warnings, given)


def _variables() -> Iterator[tuple[str, str]]:
    """Return the variables that are ours and not empty: name without the prefix, and as it stands.

    Names count whatever their case, as pydantic-settings finds them.
    """
    for variable, value in os.environ.items():
        if variable.upper().startswith(ENVIRONMENT_PREFIX) and value:
            yield variable.upper().removeprefix(ENVIRONMENT_PREFIX), variable


def _above(content: dict[str, Any]) -> type[Settings]:
    """Return the settings with a file's content below everything but the defaults."""

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic passes it
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, content)

    return Layered


def _sentence(error: ErrorDetails, sources: Mapping[str, str], file: Path | None) -> str:
    name = str(error["loc"][0])
    where = {
        "flag": flag_of(name),
        "environment": ENVIRONMENT_PREFIX + name.upper(),
        "file": f"'{name}' in {file}",
    }.get(sources.get(name, ""), name)
    problem = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"The value of {where} is wrong: {problem}."
