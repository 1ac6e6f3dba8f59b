"""What a check comes to: figures beside their targets, and every violation as a sentence."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

Advance = Callable[[int], None]
"""Reports to a progress display how many more units are done."""


def silent(_: int) -> None:
    """Advance nobody's display."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number that was reached, and what it has to be."""

    name: str
    reached: float | str
    target: str = ""


@dataclass(slots=True)
class Report:
    """The outcome of one check, which holds when there are no problems.

    Attributes:
        figures: In the order in which the table shows them.
        problems: Violations; the first few say enough.
    """

    figures: list[Figure] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, name: str, reached: float | str, target: str = "") -> None:
        """Add a figure."""
        self.figures.append(Figure(name, reached, target))

    def require(self, holds: bool, problem: str) -> None:
        """Add a problem unless `holds`."""
        if not holds:
            self.problems.append(problem)

    def as_json(self) -> dict[str, Any]:
        """Turn it into plain values."""
        return asdict(self)
