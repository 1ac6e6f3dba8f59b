"""What the API reports to metrics and traces."""

from collections.abc import Iterable
from typing import Any, Protocol

UNKNOWN_METHOD = "_OTHER"
"""The method name of calls to unknown methods, so that callers cannot add names to metrics."""


class Span(Protocol):
    """The span of a call."""

    @property
    def context(self) -> object:
        """What the span of a group can link to."""

    def end(self, code: str) -> None:
        """End the span, from any thread. `code` is the name of the status code."""


class Tracer(Protocol):
    """Traces calls."""

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Span:
        """Begin a span: a child of the caller's span, if `metadata` has one."""


class CallObserver(Protocol):
    """Is notified of calls. Must be thread-safe."""

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """A call has ended.

        Args:
            method: Such as `package.Service/Method`, or UNKNOWN_METHOD.
            code: The name of its status code, such as OK.
            seconds: Time from its first header to its status.
        """

    def call_shed(self, cause: str) -> None:
        """A call was shed, under load or because the server is stopping.

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
    "clock",
)
"""The causes for which calls are shed."""


class NoObserver:
    """Ignores all notifications."""

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """See CallObserver."""

    def call_shed(self, cause: str) -> None:
        """See CallObserver."""


def request_id_of(metadata: Iterable[tuple[str, Any]]) -> str:
    """Return the `x-request-id` of a call, or an empty text if there is none or it is invalid."""
    for key, value in metadata:
        if key == "x-request-id" and isinstance(value, str):
            valid = len(value) <= _MAX_REQUEST_ID and value.isascii() and value.isprintable()
            return value if valid and " " not in value else ""
    return ""


_MAX_REQUEST_ID = 128
