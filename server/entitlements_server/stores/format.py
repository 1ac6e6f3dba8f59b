"""The version of what stores keep: major.minor.

A store of another major is refused. One of a higher minor is read, and written to: what only the newer
version knows is carried through. So an upgrade adds fields, columns and tables, under a higher minor,
and never rewrites a history.
"""

from typing import NamedTuple

from entitlements_server.stores.interface import StoreUnavailableError


class Format(NamedTuple):
    """A version."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def is_readable(self) -> bool:
        """Whether this version of the program can read it."""
        return self.major == FORMAT.major


FORMAT = Format(1, 0)
"""What this version of the program writes."""


def parse(text: str) -> Format | None:
    """Read a version as it is written, or None if it is none."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return None
    return Format(int(major), int(minor))


class ForeignFormatError(StoreUnavailableError):
    """The user's records are of a newer format than this server reads, and were left alone."""

    remedy = "Nothing was written: ask the operator for the newer version of the server."

    def __init__(self, found: str) -> None:
        message = (
            f"The store holds records of format {found} and this server reads formats"
            f" {FORMAT.major}.x: nothing was written; replace this server by the newer version."
        )
        super().__init__(message)
        self.message = message
