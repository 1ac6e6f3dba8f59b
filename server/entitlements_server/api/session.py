"""One call, from its first header to its end: see transport.interface.CallHandler."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from entitlements_server.api.admission import leaving_error, unsent_error
from entitlements_server.api.auth import Identity
from entitlements_server.api.errors import RequestMissingError, RequestOverdueError
from entitlements_server.api.rate_limit import Bucket
from entitlements_server.api.reporter import Reporter
from entitlements_server.api.route import Result, Route, Stream, Write
from entitlements_server.engine.engine import Engine, Submission
from entitlements_server.engine.handover import Handover
from entitlements_server.instrumentation.interface import UNKNOWN_METHOD, Span
from entitlements_server.stores.interface import CommandResult
from entitlements_server.transport.interface import IncomingCall

_READ_ROOM_BYTES = 1024 * 1024
"""Room that an answer needs before it is made: that of a long page of transactions."""

_LAST_MESSAGE_S = 0.5
"""How long a stream may take to send its last message when the server stops."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What every call is served with.

    Attributes:
        engine: Commits writes.
        reporter: Reports calls that end.
        to_loop: Runs functions on the event loop.
        reading: Bounds the reads that wait for the store at once.
        over: Called with each session that is over, on the transport's thread.
    """

    engine: Engine
    reporter: Reporter
    to_loop: Handover[Callable[[], None]]
    reading: asyncio.Semaphore
    over: "Callable[[Session], None]"


class Session:
    """One call. The first answer ends it; later ones do nothing.

    Events arrive on the transport's thread. Writes and slow reads are answered on the event loop.

    Attributes:
        route: Of its method; None: the server has no such method.
        identity: Its caller, once recognised.
        ticket: Its ticket of admission; None: it was not admitted.
    """

    __slots__ = (
        "_answered",
        "_call",
        "_leaving",
        "_over",
        "_rejection",
        "_respond",
        "_sends",
        "_sents",
        "_serving",
        "_span",
        "_started_s",
        "_stream",
        "_submission",
        "_task",
        "identity",
        "route",
        "ticket",
    )

    def __init__(self, call: IncomingCall, route: Route | None, serving: Serving) -> None:
        self.route = route
        self.identity: Identity | None = None
        self.ticket: str | None = None
        self._call = call
        self._serving = serving
        self._started_s = time.perf_counter()
        self._answered = False
        self._over = False
        self._leaving = False
        self._rejection: Exception | None = None
        self._sends = self._sents = 0
        self._span: Span | None = None
        self._stream: Stream | None = None
        self._submission: Submission | None = None
        self._respond: Callable[[Sequence[CommandResult]], Message] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def method(self) -> str:
        """As in `package.Service/Method`; callers cannot make up others."""
        return UNKNOWN_METHOD if self.route is None else self.route.method

    @property
    def caller(self) -> str:
        """Name of the authenticated caller, or empty."""
        return self.identity.caller.name if self.identity is not None else ""

    @property
    def bucket(self) -> Bucket | None:
        """Counts the caller's calls, if it has a rate."""
        return self.identity.bucket if self.identity is not None else None

    def reject(self, error: Exception) -> None:
        """Do not serve the call.

        A stream is answered after its first message: grpc.aio reports an error of its own if the answer
        arrives while it is still sending.
        """
        if self.route is not None and self.route.stream is not None:
            # Without its traceback, whose frames would keep the call alive.
            self._rejection = error.with_traceback(None)
        else:
            self.fail(error)

    def begin(self) -> None:
        """Begin to serve an admitted call."""
        assert self.route is not None
        self._span = self._serving.reporter.begin_span(self.method, self._call)
        if self.route.stream is not None:
            self._stream = self.route.stream(self)

    # The side that a stream sees: see StreamCall.

    def receive(self) -> None:
        """See StreamCall."""
        self._call.receive()

    def send(self, message: bytes) -> None:
        """See StreamCall."""
        self._sends += 1
        self._call.send(message)

    def finish(self) -> None:
        """See StreamCall."""
        self._call.finish()

    # What arrives: see CallHandler.

    def received(self, message: bytes) -> None:
        """See CallHandler."""
        try:
            if self._rejection is not None:
                raise self._rejection  # noqa: TRY301  # answered like all others
            if self._stream is not None:
                self._stream.received(message)
            elif self.route is not None and self.route.serve is not None:
                self._take(self.route.serve(message, self))
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            self.fail(error)

    def half_closed(self) -> None:
        """See CallHandler."""
        if self._stream is None:
            self.fail(self._rejection or RequestMissingError())
            return
        self._guard(self._stream.half_closed)
        self._succeeded()

    def overdue(self) -> None:
        """See CallHandler."""
        self.fail(RequestOverdueError())

    def sent(self) -> None:
        """See CallHandler."""
        if self._stream is not None:
            self._guard(self._stream.sent)
            # Afterwards, as the stream may have had one more to send.
            self._sents += 1
            if self._leaving:
                self._end_if_idle()

    def ended(self) -> None:
        """See CallHandler."""
        self._over = True
        if not self._answered:
            self._answered = True
            deadline_s = self._call.deadline_s
            late = deadline_s is not None and time.monotonic() >= deadline_s
            self._report("DEADLINE_EXCEEDED" if late else "CANCELLED")
        if self._submission is not None:
            self._submission.abandoned = True
        if self._task is not None:
            self._serving.to_loop.post(self._cancel)
        if self._stream is not None:
            self._guard(self._stream.ended)
        self._serving.over(self)

    # How it ends.

    def fail(self, error: Exception) -> None:
        """End the call with an error, unless it has ended. May be called from any thread."""
        if self._answered:
            return
        self._answered = True
        status, request_id = self._serving.reporter.failed(
            error, self.method, self.caller, self._call
        )
        self._call.fail(status)
        self._report(status.code.name, request_id)

    def leave(self) -> None:
        """End a stream because the server stops. On the event loop.

        A message that is being sent is sent first, and the one after it: its peer may wait for just that.
        """
        self._leaving = True
        self._end_if_idle()
        asyncio.get_running_loop().call_later(_LAST_MESSAGE_S, self.fail, leaving_error())

    def _end_if_idle(self) -> None:
        if self._sends == self._sents:
            self.fail(leaving_error())

    def _take(self, result: Result) -> None:
        if isinstance(result, Write):
            # Checked again: many calls may have been admitted before the first answer was left unread.
            if not self._call.has_room():
                raise unsent_error()
            self._respond = result.respond
            origin = self._span.context if self._span is not None else None
            submission = Submission(result.commands, self._settled, self._call.deadline_s, origin)
            self._submission = submission
            self._serving.engine.enqueue(submission)
        elif isinstance(result, Message):
            self._reply_read(result)
        else:
            self._serving.to_loop.post(lambda: self._read(result))

    def _settled(self, outcomes: Sequence[CommandResult] | Exception) -> None:
        """Answer a write, on the event loop."""
        if isinstance(outcomes, Exception):
            self.fail(outcomes)
            return
        if self._over:
            return
        assert self._respond is not None
        try:
            self._reply(self._respond(outcomes))
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            self.fail(error)

    def _read(self, reading: Coroutine[Any, Any, Message]) -> None:
        """Begin a read that has to wait for the store, on the event loop."""
        if self._over:
            reading.close()
            return

        async def read() -> None:
            try:
                async with self._serving.reading:
                    # An answer that cannot be sent is not read either.
                    if not self._call.has_room(_READ_ROOM_BYTES):
                        raise unsent_error()  # noqa: TRY301  # answered like all others
                    response = await reading
                self._reply_read(response)
            except Exception as error:  # noqa: BLE001  # the caller gets a status
                self.fail(error)
            finally:
                reading.close()

        self._task = asyncio.get_running_loop().create_task(read())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _reply_read(self, response: Message) -> None:
        """Answer a read. Unlike a write, it is shed if the peer does not read its answers."""
        if not self._call.has_room(response.ByteSize()):
            raise unsent_error()
        self._reply(response)

    def _reply(self, response: Message) -> None:
        if not self._answered:
            self._answered = True
            self._call.reply(response.SerializeToString())
            self._report("OK")

    def _succeeded(self) -> None:
        if not self._answered:
            self._answered = True
            self._report("OK")

    def _guard(self, happen: Callable[[], None]) -> None:
        try:
            happen()
        except Exception as error:  # noqa: BLE001  # the caller gets a status, whatever it is
            self.fail(error)

    def _report(self, code: str, request_id: str = "") -> None:
        self._serving.reporter.ended(
            self.method,
            code,
            self._started_s,
            caller=self.caller,
            call=self._call,
            span=self._span,
            request_id=request_id,
        )
