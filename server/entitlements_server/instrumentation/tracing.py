"""OpenTelemetry traces (extra `otel`): a span for each call and for each group.

Only imported if `--trace-to` is set. Spans have methods, codes, sizes and times; never metadata,
requests or error texts.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entitlements_server.instrumentation.metrics import SERVER_ERRORS
from entitlements_server.stores.interface import CommandResult

_W3C = ("traceparent", "tracestate")
_MAX_LINKS = 100
_FLUSH_MS = 5000


@dataclass(slots=True)
class CallSpan:
    """The span of a call; see `interface.Span`."""

    span: trace.Span

    @property
    def context(self) -> trace.SpanContext:
        """See interface.Span."""
        return self.span.get_span_context()

    def end(self, code: str) -> None:
        """See interface.Span."""
        self.span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_ERRORS:
            self.span.set_attribute("error.type", code)
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.end()


class Tracing:
    """Creates and exports spans; see `interface.Tracer` and `engine.Observer`.

    Args:
        exporter: Exports the spans, in batches on a thread of its own.
        version: The version of this program.
    """

    def __init__(self, exporter: SpanExporter, version: str) -> None:
        resource = Resource.create({"service.name": "entitlements", "service.version": version})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("entitlements_server", version)
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def to_receiver(cls, url: str, version: str) -> "Tracing":
        """Export spans to an OTLP gRPC receiver. `https://` means TLS.

        Headers and certificates come from the environment variables that OpenTelemetry defines.
        """
        return cls(OTLPSpanExporter(endpoint=url, insecure=url.startswith("http://")), version)

    def begin(self, method: str, metadata: Iterable[tuple[str, Any]]) -> CallSpan:
        """See interface.Tracer. Accepts W3C trace context."""
        carrier = {key: value for key, value in metadata if key in _W3C}
        # Only the caller's context or a new trace, never the ambient context.
        parent = self._propagator.extract(carrier, Context())
        span = self._tracer.start_span(
            method,
            parent,
            trace.SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": method},
        )
        return CallSpan(span)

    def committed(
        self, outcomes: Sequence[CommandResult], origins: Sequence[object], seconds: float
    ) -> None:
        """See engine.Observer. The span of a group links to the calls that wait for it."""
        end_ns = time.time_ns()
        links = [
            trace.Link(origin)
            for origin in origins[:_MAX_LINKS]
            if isinstance(origin, trace.SpanContext) and origin.is_valid
        ]
        span = self._tracer.start_span(
            "commit group",
            Context(),
            trace.SpanKind.INTERNAL,
            {"entitlements.group_size": len(outcomes)},
            links,
            start_time=end_ns - round(seconds * 1e9),
        )
        span.end(end_ns)

    def close(self) -> None:
        """Export the remaining spans, within at most five seconds."""
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()
