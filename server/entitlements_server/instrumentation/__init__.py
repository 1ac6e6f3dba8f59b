"""Metrics, traces and logs.

| module | contents |
|---|---|
| `interface.py` | what the API and the engine report |
| `metrics.py`, `durations.py` | metrics for Prometheus, and the histogram of calls |
| `http.py` | `/metrics`, `/livez` and `/readyz` |
| `tracing.py` | traces by OpenTelemetry |
| `logs.py`, `native_log.py` | log lines, and those of libraries in C |
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from entitlements import __version__
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.engine.engine import Observer
from entitlements_server.instrumentation.metrics import Metrics
from entitlements_server.stores.interface import CommandResult

if TYPE_CHECKING:
    from entitlements_server.instrumentation.tracing import Tracing


class Several:
    """Combines several observers of the engine."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def committed(
        self, outcomes: Sequence[CommandResult], origins: Sequence[object], seconds: float
    ) -> None:
        """See engine.Observer."""
        for observer in self._observers:
            observer.committed(outcomes, origins, seconds)


def tracing_of(receiver: str | None) -> "Tracing | None":
    """Return the tracing, if there is a receiver.

    Args:
        receiver: URL of an OTLP gRPC receiver; None: no traces.

    Raises:
        ConfigurationError: The extra for traces is not installed.
    """
    if receiver is None:
        return None
    try:
        from entitlements_server.instrumentation.tracing import Tracing  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ConfigurationError(
            "Traces need the extra otel: pip install 'entitlements[server,otel]'."
        ) from error
    return Tracing.to_receiver(receiver, __version__)


def engine_observer(metrics: Metrics | None, tracing: "Tracing | None") -> Observer | None:
    """Return the observer of the engine, if there is one."""
    observers: list[Observer] = [one for one in (metrics, tracing) if one is not None]
    if len(observers) > 1:
        return Several(observers)
    return observers[0] if observers else None
