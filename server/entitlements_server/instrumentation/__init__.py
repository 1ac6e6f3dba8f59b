"""Metrics, traces and logs."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from entitlements_server.engine import Observer
from entitlements_server.instrumentation.metrics import Metrics
from entitlements_server.ledger.decide import Outcome
from entitlements_server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from entitlements_server.instrumentation.tracing import Tracing


class Several:
    """Combines several observers of the engine."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def committed(
        self, outcomes: Sequence[Outcome], origins: Sequence[object], seconds: float
    ) -> None:
        """See engine.Observer."""
        for observer in self._observers:
            observer.committed(outcomes, origins, seconds)


def tracing_of(settings: Settings) -> "Tracing | None":
    """Return the tracing, if the settings turn it on.

    Raises:
        SettingsError: They do, but the extra is not installed.
    """
    if settings.trace_to is None:
        return None
    try:
        from entitlements_server.instrumentation.tracing import Tracing  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise SettingsError(
            "Traces need the extra otel: pip install 'entitlements[server,otel]'."
        ) from error
    return Tracing.to_receiver(settings.trace_to, version("entitlements"))


def engine_observer(metrics: Metrics | None, tracing: "Tracing | None") -> Observer | None:
    """Return the observer of the engine, if there is one."""
    observers: list[Observer] = [one for one in (metrics, tracing) if one is not None]
    if len(observers) > 1:
        return Several(observers)
    return observers[0] if observers else None
