"""Arguments that are more than text: periods and labels."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

_ISO = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?"
)
_SHORT = re.compile(r"(\d+)([wdhms])")
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}

Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label to store with it. Up to 8 times."),
]
"""`--label`, for every command that writes."""


def parse_period(text: str) -> timedelta:
    """Read a period: 30d, 48h, 90m, 45s, 2w, or ISO 8601 as in a catalogue, such as P1DT12H.

    Raises:
        typer.BadParameter: It is not a period, or longer than any.
    """
    iso, short = _ISO.fullmatch(text), _SHORT.fullmatch(text)
    try:
        if short:
            return timedelta(**{_UNITS[short[2]]: int(short[1])})
        if iso and any(iso.groups()):
            return timedelta(**{name: int(value or 0) for name, value in iso.groupdict().items()})
    except OverflowError:
        pass
    raise typer.BadParameter("Write a period: 30d, 48h, 90m, 45s, or P1DT12H.")


def labels_of(given: Sequence[str] | None) -> dict[str, str]:
    """Read labels.

    Raises:
        typer.BadParameter: One is not KEY=VALUE, or a key is there twice.
    """
    labels: dict[str, str] = {}
    for one in given or ():
        key, equals, value = one.partition("=")
        if not equals or key in labels:
            raise typer.BadParameter(
                f"'{one}' is no label, or its key is there twice. Write KEY=VALUE.",
                param_hint="--label",
            )
        labels[key] = value
    return labels
