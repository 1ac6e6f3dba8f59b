"""Reports a call when it ends: its status, metrics, trace and log line."""

import secrets
import time

import structlog

from entitlements_server.api.errors import NoSuchMethodError
from entitlements_server.api.status import status_of
from entitlements_server.errors import CallError, NotAdmittedError
from entitlements_server.instrumentation.interface import (
    CallObserver,
    NoObserver,
    Span,
    Tracer,
    request_id_of,
)
from entitlements_server.instrumentation.logs import Throttle
from entitlements_server.stores.alerts import Alerts
from entitlements_server.stores.interface import DamagedRecordError
from entitlements_server.transport.interface import CallStatus, IncomingCall

log = structlog.get_logger()

REQUEST_ID_KEY = "x-request-id"
"""The metadata key of the request id, in calls and in errors."""


class Reporter:
    """Reports calls. Thread-safe.

    Args:
        observer: Notified of each call that ends.
        tracer: Traces calls; None: no traces.
        alerts: Reports what an operator has to look at.
        log_calls: Whether to log every call.
    """

    def __init__(
        self,
        observer: CallObserver | None = None,
        tracer: Tracer | None = None,
        *,
        alerts: Alerts | None = None,
        log_calls: bool = False,
    ) -> None:
        self._observer = observer or NoObserver()
        self._tracer = tracer
        self._log_calls = log_calls
        self._rejections = Throttle(lines=20, seconds=10.0)
        self._alerts = alerts or Alerts()

    def begin_span(self, method: str, call: IncomingCall) -> Span | None:
        """Begin the span of a call, if calls are traced."""
        return self._tracer.begin(method, call.metadata) if self._tracer is not None else None

    def failed(
        self, error: Exception, method: str, caller: str, call: IncomingCall
    ) -> tuple[CallStatus, str]:
        """Report a failed call. Returns its status and its request id."""
        request_id = request_id_of(call.metadata) or secrets.token_hex(8)
        if not isinstance(error, CallError):
            log.error(
                "A call failed with an unexpected error.",
                reference=request_id,
                method=method,
                caller=caller,
                exc_info=error,
            )
        elif isinstance(error, DamagedRecordError):
            self._alerts.damaged(error)
        elif isinstance(error, NotAdmittedError):
            self._report_rejection(error, method, caller, call, request_id)
        status = status_of(error, request_id)
        trailers = (*status.trailers, (REQUEST_ID_KEY, request_id))
        return CallStatus(status.code, status.message, trailers), request_id

    def ended(
        self,
        method: str,
        code: str,
        started_s: float,
        *,
        caller: str,
        call: IncomingCall,
        span: Span | None,
        request_id: str = "",
    ) -> None:
        """Report a call that has a status.

        Args:
            method: Such as `package.Service/Method`, or UNKNOWN_METHOD.
            code: The name of its status code.
            started_s: When its headers arrived, by the performance counter.
            caller: The name of its caller, or empty.
            call: The call.
            span: Its span, if it has one.
            request_id: Its request id, if it failed.
        """
        seconds = time.perf_counter() - started_s
        self._observer.call_ended(method, code, seconds)
        if span is not None:
            span.end(code)
        if self._log_calls:
            log.info(
                "A call ended.",
                method=method,
                code=code,
                caller=caller,
                milliseconds=round(seconds * 1000, 3),
                request_id=request_id or request_id_of(call.metadata),
            )

    def _report_rejection(
        self,
        error: NotAdmittedError,
        method: str,
        caller: str,
        call: IncomingCall,
        request_id: str,
    ) -> None:
        if isinstance(error, NoSuchMethodError):
            return  # Tools probe for newer services. The metrics count it.
        if error.shed_cause:
            self._observer.call_shed(error.shed_cause)
        # A flood of rejected calls must not become a flood of log lines.
        suppressed = self._rejections.ask(type(error).__name__)
        if suppressed is not None:
            log.warning(
                "A call was rejected.",
                reason=str(error),
                method=method,
                caller=caller,
                peer=call.peer(),
                request_id=request_id,
                similar_lines_suppressed=suppressed,
            )
