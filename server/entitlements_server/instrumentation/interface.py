"""What the API and the engine report to those who watch. Metrics, logs and traces plug in here."""

from collections.abc import Iterable
from typing import Any, Protocol

UNKNOWN_METHOD = "_OTHER"
"""The method of a call to none of ours, so that callers cannot make up names for metrics."""


class Span(Protocol):
    """A call that is being traced."""

    @property
    def context(self) -> object:
        """What the span of a group links to."""

    def end(self, code: str) -> None:
        """End it, from any thread. `code` is the name of the call's status code."""


class Tracer(Protocol):
    """Traces calls."""

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:
        """Begin a span, below the caller's if `metadata` names one."""


class CallObserver(Protocol):
    """Watches calls end. Its methods may be called from any thread."""

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """Take note of a call.

        Args:
            method: As in `package.Service/Method`, or UNKNOWN_METHOD.
            code: Name of its status code, like OK.
            seconds: From its first header to its status.
        """

    def call_shed(self, cause: str) -> None:
        """Take note of a call that was shed under load, or because the server stops.

        Args:
            cause: One of SHED_CAUSES.
        """


SHED_CAUSES = (
    "queue",
    "in_flight",
    "streaming",
    "unsent",
    "rate",
    "deadline",
    "draining",
)
"""What may be too much."""


class NoObserver:
    """Watches nothing."""

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """See CallObserver."""

    def call_shed(self, cause: str) -> None:
        """See CallObserver."""


def request_id_of(metadata: Iterable[tuple[str, Any]]) -> str:
    """Return the sane `x-request-id` that a call was sent with, or nothing."""
    for key, value in metadata:
        if key == "x-request-id" and isinstance(value, str):
            sane = len(value) <= _MAX_REQUEST_ID and value.isascii() and value.isprintable()
            return value if sane and " " not in value else ""
    return ""


_MAX_REQUEST_ID = 128
