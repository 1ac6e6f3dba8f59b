"""The version of the stored format: major.minor.

A store with another major version is not opened. One with a higher minor version is read and written:
what only the newer version knows is carried through. So an upgrade adds fields, columns and tables
under a higher minor version and never rewrites a history.
"""

from typing import NamedTuple

from entitlements_server.stores.interface import StoreUnavailableError


class Format(NamedTuple):
    """A version of the stored format."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def is_readable(self) -> bool:
        """Whether this version of the program can read it."""
        return self.major == FORMAT.major


FORMAT = Format(1, 0)
"""The format that this version of the program writes."""


def parse(text: str) -> Format | None:
    """Parse a version; None if the text is not one."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return None
    return Format(int(major), int(minor))


class ForeignFormatError(StoreUnavailableError):
    """A record has a newer format than this server reads. It was not changed.

    Attributes:
        user_id: Whose record it is; empty: not known.
    """

    remedy = "Nothing was written: ask the operator for the newer version of the server."

    user_id = ""

    def __init__(self, found: str) -> None:
        message = (
            f"The store has records of format {found} and this server reads formats {FORMAT.major}.x;"
            " nothing was written. Replace this server by the newer version."
        )
        super().__init__(message)
        self.message = message
