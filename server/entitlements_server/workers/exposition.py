"""One endpoint for the metrics of all workers: each sample gets the label `worker`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from entitlements_server.instrumentation.metrics import exposed
from entitlements_server.workers.process import WorkerProcess


class MergedMetrics(Collector):
    """The metrics of all workers that answer, and of the supervisor.

    Args:
        workers: The workers.
        restarts: Returns how often a worker was started again.
    """

    def __init__(self, workers: Sequence[WorkerProcess], restarts: Callable[[], int]) -> None:
        self._workers = workers
        self._restarts = restarts

    def describe(self) -> Iterator[Metric]:
        """See Collector: what they are is known once they are asked."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        found: dict[str, Metric] = {}
        serving = 0
        for worker in self._workers:
            report = worker.report()
            if report is None:
                continue
            serving += report.is_serving
            for family in report.families:
                metric = found.setdefault(
                    family.name, Metric(family.name, family.documentation, family.kind)
                )
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "worker": str(worker.index)}, value)
        yield GaugeMetricFamily("entitlements_workers", "Workers that are SERVING.", value=serving)
        yield CounterMetricFamily(
            "entitlements_worker_restarts",
            "Workers that ended and were replaced.",
            value=self._restarts(),
        )
        yield from found.values()


@contextmanager
def merged(
    listen: str, workers: Sequence[WorkerProcess], restarts: Callable[[], int]
) -> Iterator[str]:
    """Serve the metrics of all workers while the block runs. Yields the address, as HOST:PORT.

    `/readyz` says SERVING as long as one worker is.

    Raises:
        MetricsListenError: The supervisor cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(MergedMetrics(workers, restarts))

    def is_serving() -> bool:
        reports = (worker.report() for worker in workers)
        return any(report.is_serving for report in reports if report is not None)

    with exposed(listen, registry, is_serving) as address:
        yield address
