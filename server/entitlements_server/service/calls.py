"""Running a call that was let in, and ending one that was not: deadlines, errors, observers.

gRPC would send the text of any exception to the caller, that of a parse error included. So no
exception gets past here, and nothing but the table in `status.py` decides what leaves.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog

from entitlements_server.engine import OverloadedError
from entitlements_server.logs import Throttle
from entitlements_server.service.errors import (
    NoSuchMethodError,
    RateLimitedError,
    RefusedError,
)
from entitlements_server.service.guard import Identity
from entitlements_server.service.observing import CallObserver, Nobody, Span, Tracer, request_id_of
from entitlements_server.service.servicer import Call
from entitlements_server.service.status import Answer, answer, is_known

log = structlog.get_logger()

REQUEST_ID_KEY = "x-request-id"
"""The metadata in which a call may bring its request id, and in which an error has it."""

Endpoint = Callable[[Any, Any, Call], Awaitable[Any]]
"""Serves a call: takes its request as bytes (or an iterator of such), gRPC's context, the call."""


@dataclass(slots=True)
class Arrival:
    """A call as it arrives.

    Attributes:
        method: As in `package.Service/Method`, or UNKNOWN_METHOD.
        metadata: What it was sent with. Never logged: there may be a token in it.
        started_s: When it arrived, by the performance counter.
        request_id: What it is called where it failed; empty as long as it has not.
    """

    method: str
    metadata: Any
    started_s: float
    request_id: str = ""


class Calls:
    """Runs calls and counts those in flight.

    Args:
        observer: Watches calls end.
        tracer: Traces calls; None: no traces.
        log_calls: Whether every call gets a line in the log.
    """

    def __init__(
        self,
        observer: CallObserver | None = None,
        tracer: Tracer | None = None,
        *,
        log_calls: bool = False,
    ) -> None:
        self.in_flight = 0
        self._observer = observer or Nobody()
        self._tracer = tracer
        self._log_calls = log_calls
        self._refusals = Throttle(lines=20, seconds=10.0)

    async def run(
        self, arrival: Arrival, identity: Identity, endpoint: Endpoint, request: Any, context: Any
    ) -> Any:
        """Serve a call that was let in. Every error ends it with a status of our table."""
        caller = identity.caller.name
        tracer = self._tracer
        span = tracer.begin(arrival.method, arrival.metadata) if tracer is not None else None
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        code = "OK"
        self.in_flight += 1
        try:
            return await endpoint(request, context, Call(caller, deadline, identity.bucket))
        except asyncio.CancelledError:
            late = deadline is not None and asyncio.get_running_loop().time() >= deadline
            code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        except grpc.aio.AbortError:
            # gRPC's own services end their calls themselves.
            code = getattr(context.code(), "name", "UNKNOWN")
            raise
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            failed = self._answer(error, arrival, context, caller)
            code = failed.code.name
            await _abort(failed, context)
        finally:
            self.in_flight -= 1
            self._ended(arrival, code, caller, span)

    async def refuse(self, arrival: Arrival, error: Exception, context: Any) -> NoReturn:
        """End a call that is not let in."""
        failed = self._answer(error, arrival, context, "")
        self._ended(arrival, failed.code.name, "", None)
        await _abort(failed, context)

    def _ended(self, arrival: Arrival, code: str, caller: str, span: Span | None) -> None:
        seconds = time.perf_counter() - arrival.started_s
        self._observer.call_ended(arrival.method, code, seconds)
        if span is not None:
            span.end(code)
        if self._log_calls:
            log.info(
                "A call ended.",
                method=arrival.method,
                code=code,
                caller=caller,
                milliseconds=round(seconds * 1000, 3),
                request_id=arrival.request_id or request_id_of(arrival.metadata),
            )

    def _answer(self, error: Exception, arrival: Arrival, context: Any, caller: str) -> Answer:
        """Return how the table ends a call that failed, and tell the log and the observer."""
        request_id = request_id_of(arrival.metadata) or secrets.token_hex(8)
        arrival.request_id = request_id
        if not is_known(error):
            log.error(
                "A call failed unforeseen.",
                reference=request_id,
                method=arrival.method,
                caller=caller,
                exc_info=error,
            )
        elif isinstance(error, RefusedError | OverloadedError):
            self._note_refusal(error, arrival, context, caller, request_id)
        failed = answer(error, request_id)
        return Answer(failed.code, failed.status, (*failed.trailers, (REQUEST_ID_KEY, request_id)))

    def _note_refusal(
        self, error: Exception, arrival: Arrival, context: Any, caller: str, request_id: str
    ) -> None:
        if isinstance(error, NoSuchMethodError):
            return  # Tools probe for newer services; the metrics count it.
        if isinstance(error, OverloadedError):
            self._observer.call_shed(error.cause)
        elif isinstance(error, RateLimitedError):
            self._observer.call_shed("rate")
        # A flood of refusals must not become a flood of lines.
        kept_back = self._refusals.ask(type(error).__name__)
        if kept_back is not None:
            log.warning(
                "A call was refused.",
                reason=str(error),
                method=arrival.method,
                caller=caller,
                peer=context.peer(),
                request_id=request_id,
                similar_lines_kept_back=kept_back,
            )


async def _abort(failed: Answer, context: Any) -> NoReturn:
    await context.abort(failed.code, failed.status.message, failed.trailers)
    raise AssertionError("abort returned")
