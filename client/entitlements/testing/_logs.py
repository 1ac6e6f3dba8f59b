"""Where the service's log lines go while it runs in someone else's process."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def lines_to_logging() -> Iterator[None]:
    """Hand the lines to `logging`, which pytest captures, while the block runs.

    By default structlog prints them on standard output, which belongs to the program under test. If
    that program has configured structlog, the lines go where its own go.
    """
    if structlog.is_configured():
        yield
        return
    factory = structlog.stdlib.LoggerFactory()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=factory,
    )
    try:
        yield
    finally:
        # Unless the program has configured it meanwhile.
        if structlog.get_config()["logger_factory"] is factory:
            structlog.reset_defaults()
