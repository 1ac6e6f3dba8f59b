"""Prometheus metrics: calls, named as in OpenTelemetry's RPC conventions, and the ledger.

Label values are bounded: the methods of the server and the features of its catalogue.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from entitlements import __version__
from entitlements_server.config.errors import ConfigurationError
from entitlements_server.instrumentation.durations import Durations
from entitlements_server.instrumentation.http import serving_http
from entitlements_server.instrumentation.interface import SHED_CAUSES
from entitlements_server.ledger.outcomes import Recorded, Replayed
from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.stores.interface import CommandResult

_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""In seconds, as recommended by OpenTelemetry's RPC conventions."""

_COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_GROUP_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

SERVER_ERRORS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""The codes that the conventions count as server errors."""


# Prometheus detects restarted counters itself; this would add a series for each counter.
disable_created_metrics()  # type: ignore[no-untyped-call]


class MetricsListenError(ConfigurationError):
    """The server cannot listen on the address for metrics."""


class Metrics:
    """All metrics. Observes calls and groups: see `interface.py` and `engine.py`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._durations = Durations(
            "rpc_server_call_duration_seconds",
            "Time from a call's first header to its status.",
            ("rpc_system_name", "rpc_method", "rpc_response_status_code", "error_type"),
            lambda method, code: ("grpc", method, code, code if code in SERVER_ERRORS else ""),
            _CALL_BUCKETS,
        )
        self.registry.register(self._durations)
        self._charges = self._by_feature("charges", "Successful charges, free ones included.")
        self._denials = self._by_feature(
            "denials", "Charges denied because the balance was too small."
        )
        self._consumed = self._by_feature("tokens_consumed", "Tokens charged.")
        self._replays = self._count(
            "replays", "Writes answered with the transaction of an earlier request."
        )
        self._refunds = self._count("refunds", "Refunds.")
        self._refunded = self._count("tokens_refunded", "Tokens given back.")
        self._top_ups = self._count("top_ups", "Top-ups.")
        self._topped_up = self._count("tokens_topped_up", "Tokens added by top-ups.")
        self._adjustments = self._count("adjustments", "Balances set.")
        self._expired = self._count("tokens_expired", "Tokens recorded as expired.")
        self._covered = self._count(
            "covered", "Charges not made because an access window covers them."
        )
        self._group_size = Histogram(
            "entitlements_group_size",
            "Commands committed together.",
            buckets=_GROUP_BUCKETS,
            registry=self.registry,
        )
        self._commit = Histogram(
            "entitlements_commit_duration_seconds",
            "Time to decide a group and make it durable.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        shed = Counter(
            "entitlements_shed_calls",
            "Calls shed under load, by cause.",
            ("cause",),
            registry=self.registry,
        )
        self._shed = {cause: shed.labels(cause) for cause in SHED_CAUSES}
        reloads = Counter(
            "entitlements_reloads",
            "Reloads of files, by file and result.",
            ("what", "result"),
            registry=self.registry,
        )
        self._reloads = {
            (what, accepted): reloads.labels(what, "accepted" if accepted else "rejected")
            for what in ("callers", "catalogue", "certificate")
            for accepted in (True, False)
        }
        self._handshake_failures = self._count(
            "handshake_failures", "Failed TLS handshakes, as far as gRPC's core reports them."
        )
        self._store_up = Gauge(
            "entitlements_store_up", "1 if the store can be reached.", registry=self.registry
        )
        Gauge(
            "entitlements_build_info",
            "1, with the versions of this release, of Python and of gRPC as labels.",
            ("version", "python", "grpcio"),
            registry=self.registry,
        ).labels(__version__, platform.python_version(), grpc.__version__).set(1)
        self._certificate_expiry = Gauge(
            "entitlements_certificate_expiry_timestamp_seconds",
            "Expiry of the TLS certificate in use, seconds since 1970 UTC; 0 without TLS.",
            registry=self.registry,
        )

    def watch(
        self,
        *,
        queue_depth: Callable[[], int],
        in_flight: Callable[[], int],
        sweep_lag_s: Callable[[], float],
    ) -> None:
        """Add gauges whose values are read on each scrape."""
        for name, text, figure in (
            ("queue_depth", "Commands waiting for their group.", queue_depth),
            ("calls_in_flight", "Calls in flight.", in_flight),
            (
                "sweep_lag_seconds",
                "Seconds since when the sweeper should have recorded an expiry that it has not.",
                sweep_lag_s,
            ),
        ):
            gauge = Gauge(f"entitlements_{name}", text, registry=self.registry)
            gauge.set_function(figure)

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """See CallObserver."""
        self._durations.observe(method, code, seconds)

    def call_shed(self, cause: str) -> None:
        """See CallObserver."""
        self._shed[cause].inc()

    def committed(
        self, outcomes: Sequence[CommandResult], _: Sequence[object], seconds: float
    ) -> None:
        """See engine.Observer."""
        self._group_size.observe(len(outcomes))
        self._commit.observe(seconds)
        replays = covered = 0
        charges: dict[str, list[int]] = {}
        for outcome in outcomes:
            if isinstance(outcome, Replayed):
                if outcome.covered:
                    covered += 1
                else:
                    replays += 1
            elif isinstance(outcome, Recorded):
                for settlement in outcome.settlements:
                    self._recorded(settlement)
                transaction = outcome.transaction
                if transaction.kind is Kind.CONSUME and transaction.status is Status.SUCCESS:
                    # One update per feature and group, not one per charge.
                    sums = charges.setdefault(transaction.feature, [0, 0])
                    sums[0] += 1
                    sums[1] += transaction.cost
                else:
                    self._recorded(transaction)
        if replays:
            self._replays.inc(replays)
        if covered:
            self._covered.inc(covered)
        for feature, (count, tokens) in charges.items():
            self._charges(feature).inc(count)
            self._consumed(feature).inc(tokens)

    def handshake_failed(self) -> None:
        """Count a failed TLS handshake."""
        self._handshake_failures.inc()

    def reloaded(self, what: str, *, accepted: bool) -> None:
        """Count a reload of `callers`, `catalogue` or `certificate`."""
        self._reloads[what, accepted].inc()

    def store_is_up(self, up: bool) -> None:
        """Set whether the store can be reached."""
        self._store_up.set(up)

    def certificate_expires(self, at_s: float) -> None:
        """Set when the certificate in use expires, seconds since 1970 UTC."""
        self._certificate_expiry.set(at_s)

    def _recorded(self, transaction: Transaction) -> None:
        match transaction.kind:
            case Kind.CONSUME:
                self._denials(transaction.feature).inc()
            case Kind.REFUND:
                self._refunds.inc()
                self._refunded.inc(transaction.amount)
            case Kind.TOP_UP:
                self._top_ups.inc()
                self._topped_up.inc(transaction.amount)
            case Kind.ADJUSTMENT:
                self._adjustments.inc()
            case Kind.EXPIRE:
                self._expired.inc(-transaction.amount)

    def _count(self, name: str, text: str) -> Counter:
        return Counter(f"entitlements_{name}", text, registry=self.registry)

    def _by_feature(self, name: str, text: str) -> Callable[[str], Counter]:
        counter = Counter(f"entitlements_{name}", text, ("feature",), registry=self.registry)
        return cache(counter.labels)


@contextmanager
def exposed(listen: str, registry: CollectorRegistry, ready: Callable[[], bool]) -> Iterator[str]:
    """Serve metrics and probes over HTTP while the block runs. Yields the address, as HOST:PORT.

    Args:
        listen: Where to listen, as HOST:PORT.
        registry: The metrics.
        ready: Returns whether the server is SERVING.

    Raises:
        MetricsListenError: The server cannot listen on the address.
    """
    with ExitStack() as stack:
        try:
            address = stack.enter_context(serving_http(listen, registry, ready))
        except OSError as error:
            raise MetricsListenError(
                f"The server cannot listen on {listen} for metrics ({error.strerror}): choose"
                " another address with --metrics-listen."
            ) from error
        yield address
