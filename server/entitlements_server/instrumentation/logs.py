"""Logs one line per event to standard error: for people, or as JSON for programs.

Log records of libraries are handled the same way. No line shows a secret: tracebacks have no values of
variables, and everything that looks like a credential is masked.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import structlog

_MASK = "***"
_CREDENTIALS = re.compile(
    r"(?P<url>://[^\s/:@'\"]*:)[^\s/@'\"]+(?=@)"  # the password in a URL
    r"|(?P<header>\bbearer\s+)[^\s'\"]+"
    r"|\bent_[A-Za-z0-9_-]{20,}"  # a token of ours
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.IGNORECASE | re.DOTALL,
)


def configure_logs(
    log_format: Literal["console", "json"],
    level: str,
    secrets: Iterable[str] = (),
    fields: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Configure structlog and the logging of libraries, for the whole process.

    Args:
        log_format: Format of the lines.
        level: Minimum level.
        secrets: Texts to mask, in addition to what looks like a credential.
        fields: What every line has, besides its own.
    """
    minimum = logging.getLevelNamesMapping()[level.upper()]
    mask = masking(secrets)
    render = _renderer(log_format)

    def masked(logger: Any, name: str, event: structlog.typing.EventDict) -> str:
        return mask(str(render(logger, name, event)))

    def with_fields(
        _: Any, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.update(fields)
        return event

    shared: list[structlog.typing.Processor] = [
        with_fields,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    tracebacks: list[structlog.typing.Processor] = (
        [
            # Without locals, which contain requests, metadata and settings.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            )
        ]
        if log_format == "json"
        else []
    )
    structlog.configure(
        processors=[*shared, *tracebacks, masked],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tracebacks,
                masked,
            ],
        )
    )
    # Below warnings, libraries log for their own developers.
    logging.basicConfig(handlers=[handler], level=max(minimum, logging.WARNING), force=True)


def masking(secrets: Iterable[str] = ()) -> Callable[[str], str]:
    """Return a function that masks secrets, and what looks like a credential, in a text."""
    known = [secret for secret in secrets if secret]

    def mask(text: str) -> str:
        for secret in known:
            text = text.replace(secret, _MASK)
        return _CREDENTIALS.sub(lambda match: (match["url"] or match["header"] or "") + _MASK, text)

    return mask


class Throttle:
    """Allows a number of lines of each kind per period, and counts the rest."""

    def __init__(
        self, *, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lines = lines
        self._seconds = seconds
        self._clock = clock
        self._began: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def ask(self, kind: str) -> int | None:
        """Decide whether to write a line.

        Args:
            kind: The kind of line. There should be few kinds: each uses memory.

        Returns:
            How many lines were suppressed since the last one written; None: suppress this one.
        """
        now = self._clock()
        seen = self._seen.get(kind, 0)
        if now - self._began.get(kind, -self._seconds) >= self._seconds:
            self._began[kind] = now
            self._seen[kind] = 1
            return max(seen - self._lines, 0)
        self._seen[kind] = seen + 1
        return 0 if seen < self._lines else None


def _renderer(log_format: Literal["console", "json"]) -> structlog.typing.Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
