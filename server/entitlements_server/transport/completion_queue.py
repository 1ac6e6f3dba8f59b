"""Serves calls from gRPC's completion queue, on one thread.

This is the C core that grpc's own servers use, driven by a plain loop: a call costs a quarter of what it
costs through `grpc.aio`. The names used here are private to grpcio. So no other module uses them, `factory.py` tries them before the server starts, and where they fail `threads.py` serves instead.

docs/transport.md says what is known of the core. The most important rules:

- `start_server_batch` returns an error and does not raise; its event then never comes.
- The event of a batch is its tag, called with it on the polling thread. Nothing may escape a tag.
- The core holds 16 kB for each call object: it is released when the call is over.
- Any thread may start batches; only the polling thread takes events.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # private, and without types
from msgspec import Struct

from entitlements_server.transport.abuse import AbuseLimit
from entitlements_server.transport.address import taken
from entitlements_server.transport.interface import (
    FOREVER_S,
    LARGE_MESSAGE_BYTES,
    CallDispatcher,
    CallHandler,
    CallStatus,
    Metadata,
)
from entitlements_server.transport.options import Limits, options
from entitlements_server.transport.unsent import Unsent

log = structlog.get_logger()

NAME = "completion-queue"

OUTSTANDING = 256
"""Calls that the core may hand over before it is asked for more. 1 is slow; 16 to 4,000 are alike."""

MAX_UNREAD = 1024
"""Maximum number of calls that wait for their request. Beyond that the oldest is ended: it costs 17 kB."""

_TICK_S = 0.1
_TICKS_S = 0.5
_SEND_S = 0.5
_SHUTDOWN_S = 0.05
_CANCEL_S = 1.0
_OK = cygrpc.StatusCode.ok
_NO_FLAGS = 0
_CODES = {code: getattr(cygrpc.StatusCode, code.name.lower()) for code in grpc.StatusCode}


class _Call:
    """See interface.IncomingCall.

    The end of a call is asked for together with its answer, which saves a batch and an event. For a call that
    takes longer it is asked for earlier, so that the server knows when its caller has given up.
    """

    __slots__ = (
        "_call",
        "_closing",
        "_greeted",
        "_handler",
        "_over",
        "_peer",
        "_requestless",
        "_transport",
        "_unsent",
        "answered",
        "begun",
        "deadline_s",
        "metadata",
        "path",
    )

    def __init__(self, event: Any, transport: "CompletionQueueTransport") -> None:
        details = event.call_details
        self.path: str = details.method.decode("latin-1")
        self.metadata: Metadata = event.invocation_metadata
        deadline: float = details.deadline
        self.deadline_s: float | None = (
            None if deadline > FOREVER_S else deadline - time.time() + time.monotonic()
        )
        self._call = event.call
        # Asked for now: the core forgets it when the call ends.
        self._peer: bytes = event.call.peer()
        self._transport = transport
        self._handler: CallHandler | None = None
        self.answered = False
        self._greeted = False
        self._closing = False
        self._over = False
        self._requestless = True
        self.begun = False
        self._unsent = ("", 0)

    def peer(self) -> str:
        """See IncomingCall."""
        return self._peer.decode("utf-8", "replace")

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """See IncomingCall."""
        call = self._call
        context: Mapping[Any, Sequence[bytes]] = {} if call is None else cygrpc.auth_context(call)
        return {key.decode() if isinstance(key, bytes) else key: context[key] for key in context}

    def has_room(self, size: int = 0) -> bool:
        """See IncomingCall."""
        return self._transport.unsent.has_room(self.peer, size)

    def receive(self) -> None:
        """See IncomingCall."""
        self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._on_message)

    def send(self, message: bytes) -> None:
        """See IncomingCall."""
        if not self.answered:
            self._start(
                (*self._greeting(), cygrpc.SendMessageOperation(message, _NO_FLAGS)), self._on_sent
            )

    def reply(self, message: bytes) -> None:
        """See IncomingCall."""
        closing = self._claim()
        if closing is None:
            return
        size = len(message)
        if size >= LARGE_MESSAGE_BYTES:
            self._unsent = (self.peer(), size)
            self._transport.unsent.add(*self._unsent)
        self._transport.send(
            _Answer(
                self,
                (
                    cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                    cygrpc.SendMessageOperation(message, _NO_FLAGS),
                    cygrpc.SendStatusFromServerOperation(None, _OK, b"", _NO_FLAGS),
                    *closing,
                ),
            )
        )

    def finish(self) -> None:
        """See IncomingCall."""
        self._end_with(cygrpc.SendStatusFromServerOperation(None, _OK, b"", _NO_FLAGS))

    def fail(self, status: CallStatus) -> None:
        """See IncomingCall."""
        self._end_with(
            cygrpc.SendStatusFromServerOperation(
                status.trailers,
                _CODES[status.code],
                status.message.encode("utf-8", "replace"),
                _NO_FLAGS,
            )
        )

    # On the polling thread.

    def begin(self, handler: CallHandler) -> None:
        """Read the request, unless the call has been answered from its headers alone."""
        self._handler = handler
        if not self.answered:
            self._transport.unread[self] = time.monotonic()
            self.receive()

    def overdue(self) -> None:
        """End the call: its request does not come."""
        handler = self._handler
        if handler is not None:
            handler.overdue()

    def _on_message(self, event: Any) -> None:
        began = self._transport.unread.pop(self, None) is not None
        handler = self._handler
        if self.answered or handler is None:
            return
        message = event.batch_operations[0].message()
        if message is not None:
            self._requestless = False
            if began and not self._transport.begin(self):
                return
            try:
                handler.received(message)
            finally:
                self._transport.watch_later(self)
        elif event.success:
            # No message will come, but the peer still receives an answer.
            handler.half_closed()
            self._transport.watch_later(self)
        else:
            # The core has answered already: the message is too large or cannot be decompressed.
            self._end()

    def watch_end(self) -> None:
        """Ask for the end of the call, unless its answer has done that."""
        with self._transport.lock:
            if self._closing:
                return
            self._closing = True
        self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._on_closed)

    def _on_closed(self, _: Any) -> None:
        self._end()

    def answer(self, operations: tuple[Any, ...]) -> None:
        """Start the last batch of the call."""
        self._start(operations, self._on_answered)

    def _on_answered(self, event: Any) -> None:
        self._settle_unsent()
        if self._requestless and event.batch_operations[-1].cancelled():
            self._transport.abuse.given_up(self.peer())
        self._end()

    def _on_sent(self, event: Any) -> None:
        if event.success and not self.answered and self._handler is not None:
            self._handler.sent()

    def _end(self) -> None:
        """Release the call, which is over."""
        if self._over:
            return
        self._over = True
        self._claim()
        transport = self._transport
        transport.unread.pop(self, None)
        handler, self._handler, self._call = self._handler, None, None
        if self.begun:
            transport.end()
        if handler is not None:
            handler.ended()

    # From any thread.

    @property
    def watched(self) -> bool:
        """Whether its end is asked for."""
        return self._closing

    def _claim(self) -> tuple[Any, ...] | None:
        """Claim the right to answer the call.

        Returns:
            The operation that reports the end of the call, unless that was asked for; None if the call is
            answered already.
        """
        with self._transport.lock:
            if self.answered:
                return None
            self.answered = True
            if self.begun:
                self._transport.answered()
            self._transport.unwatched.pop(self, None)
            if self._closing:
                return ()
            self._closing = True
        return (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)

    def _end_with(self, status: Any) -> None:
        closing = self._claim()
        if closing is not None:
            self._transport.send(_Answer(self, (*self._greeting(), status, *closing)))

    def _greeting(self) -> tuple[Any, ...]:
        with self._transport.lock:
            if self._greeted:
                return ()
            self._greeted = True
        return (cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),)

    def _settle_unsent(self) -> None:
        peer, size = self._unsent
        if size:
            self._unsent = ("", 0)
            self._transport.unsent.remove(peer, size)

    def _start(self, operations: tuple[Any, ...], tag: Callable[[Any], None]) -> None:
        call = self._call
        if call is None:
            self._settle_unsent()
            return
        error = call.start_server_batch(operations, tag)
        if error != cygrpc.CallError.ok:
            self._settle_unsent()
            log.error("A batch could not be started.", error=int(error), path=self.path)


class _Answer(Struct, frozen=True):
    """The last batch of a call, to be started by some thread."""

    call: _Call
    operations: tuple[Any, ...]

    def send(self) -> None:
        """Start it."""
        self.call.answer(self.operations)


class CompletionQueueTransport:
    """See interface.Transport. Make it on the event loop.

    Args:
        dispatcher: Takes the calls.
        address: Where to listen, as HOST:PORT.
        credentials: For TLS; None: plain text.
        limits: Of the transport.

    Attributes:
        lock: Held while a call is claimed.
        unread: Calls that wait for their request, oldest first, and since when.
        unwatched: Calls that are being served and whose end is not asked for, oldest first, and since when.
        begun: Calls whose request has come and that have not ended.
        working: Those of `begun` that are not answered.
        unsent: Bytes that wait to be sent.
        abuse: Closes connections that begin calls only to give them up.

    Raises:
        ListenError: The address cannot be listened on.
    """

    name = NAME

    def __init__(
        self,
        dispatcher: CallDispatcher,
        address: str,
        credentials: grpc.ServerCredentials | None,
        limits: Limits,
    ) -> None:
        self.lock = threading.Lock()
        self.unread: dict[_Call, float] = {}
        self.unwatched: dict[_Call, float] = {}
        self.begun = 0
        self.working = 0
        self.unsent = Unsent(limits)
        self.abuse = AbuseLimit()
        self._dispatcher = dispatcher
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._fewer = asyncio.Event()
        self._shut_down: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        self._closing = False
        self._shut = False
        self._outbox: deque[_Answer] = deque()
        self._asleep = False
        self._sending = False
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(options(limits), False)
        self._server.register_completion_queue(self._queue)
        port = self._listen(address, credentials)
        if not port:
            raise taken(address)
        self.address = f"{address.rpartition(':')[0]}:{port}"
        self._server.start()
        for _ in range(OUTSTANDING):
            self._request_call()
        # A daemon: a process that ends without stopping it must not hang.
        self._poller = threading.Thread(target=self._poll, name="grpc-poll", daemon=True)
        self._poller.start()

    async def stop(self, grace_s: float) -> None:
        """See interface.Transport."""
        if self._stopping:
            return
        self._stopping = True
        # The polling thread ends the calls that wait for their request.
        await self._wait(lambda: len(self.unread), _TICKS_S)
        await self._wait(lambda: self.working, grace_s)
        # A peer that does not read its answer is given less time.
        await self._wait(lambda: self.begun, min(grace_s, _SEND_S))
        self._closing = True
        self._server.shutdown(self._queue, self._on_shut_down)
        # A silent connection delays it.
        await asyncio.wait((self._shut_down,), timeout=_SHUTDOWN_S)
        if not self._shut_down.done():
            self._server.cancel_all_calls()
            await asyncio.wait((self._shut_down,), timeout=_CANCEL_S)
        if not self._shut_down.done():
            log.error("gRPC did not shut down in time: its connections end with the process.")
            return
        # In this order, or it hangs or aborts.
        await self._loop.run_in_executor(None, self._poller.join)
        self._server.destroy()
        self._queue.shutdown()
        while self._queue.poll().completion_type != cygrpc.CompletionType.queue_shutdown:
            pass

    def send(self, answer: _Answer) -> None:
        """Send an answer. May be called from any thread.

        While the polling thread is busy, it sends the answers of other threads between two events: two threads
        in the core at a time compete for Python's lock. While it sleeps, the event loop sends them, once per
        burst.
        """
        if threading.get_ident() == self._poller.ident:
            answer.send()
            return
        self._outbox.append(answer)
        if not self._sending:
            self._sending = True
            self._loop.call_soon_threadsafe(self._send_from_loop)

    def _send_from_loop(self) -> None:
        self._sending = False
        while self._asleep and self._send_next():
            pass

    def _send_next(self) -> bool:
        """Send the oldest answer; returns whether there was one."""
        try:
            answer = self._outbox.popleft()
        except IndexError:
            return False
        answer.send()
        return True

    def watch_later(self, call: _Call) -> None:
        """Ask for the end of a call if it is not answered soon. On the polling thread."""
        with self.lock:
            if not call.answered and not call.watched:
                self.unwatched.setdefault(call, time.monotonic())

    def begin(self, call: _Call) -> bool:
        """Note that the request of a call has come, and return whether it still has to be served.

        On the polling thread.
        """
        with self.lock:
            if call.answered:
                return False
            call.begun = True
            self.begun += 1
            self.working += 1
            return True

    def answered(self) -> None:
        """Note that a begun call is answered. The caller holds the lock."""
        self.working -= 1
        if self._stopping and not self.working:
            self._loop.call_soon_threadsafe(self._fewer.set)

    def end(self) -> None:
        """Note that a begun call has ended. On the polling thread."""
        self.begun -= 1
        if self._stopping and not self.begun:
            self._loop.call_soon_threadsafe(self._fewer.set)

    async def _wait(self, busy: Callable[[], int], limit_s: float) -> None:
        """Wait until `busy` returns 0, for at most `limit_s` seconds."""
        end_s = self._loop.time() + limit_s
        while busy() and (left_s := end_s - self._loop.time()) > 0:
            self._fewer.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._fewer.wait(), left_s)

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return int(self._server.add_http2_port(address.encode()))
            core: Any = credentials
            return int(self._server.add_http2_port(address.encode(), core._credentials))  # noqa: SLF001
        except RuntimeError:
            return 0

    def _request_call(self) -> None:
        try:
            self._server.request_call(self._queue, self._queue, self._on_call)
        except ValueError:
            if not self._closing:
                raise

    def _on_call(self, event: Any) -> None:
        if not event.success or event.call is None:
            return  # The server shuts down.
        if not self._closing:
            self._request_call()
        call = _Call(event, self)
        call.begin(self._dispatcher.begin(call))
        if len(self.unread) > MAX_UNREAD:
            self._end_oldest()

    def _end_oldest(self) -> None:
        oldest = next(iter(self.unread))
        del self.unread[oldest]
        oldest.overdue()

    def _on_shut_down(self, _: Any) -> None:
        self._shut = True
        self._loop.call_soon_threadsafe(self._shut_down.set_result, None)

    def _poll(self) -> None:
        poll, clock = self._queue.poll, time.time
        next_tick = clock()
        while not self._shut:
            # In this order: what is put into the outbox now is seen either here or by the event loop.
            self._asleep = True
            while self._outbox:
                self._asleep = False
                self._send_next()
                self._asleep = True
            event = poll(deadline=clock() + _TICK_S)
            self._asleep = False
            tag = event.tag
            if tag is not None:
                try:
                    tag(event)
                except Exception:
                    # One failing call must not end the service.
                    log.exception("An event of gRPC could not be handled.")
            if clock() >= next_tick:
                next_tick = clock() + _TICK_S
                self._end_overdue()
                self._watch_slow()
                self.abuse.act()

    def _watch_slow(self) -> None:
        """Ask for the end of the calls that were being served at the tick before."""
        latest = time.monotonic() - _TICK_S
        with self.lock:
            slow = [call for call, since_s in self.unwatched.items() if since_s < latest]
            for call in slow:
                del self.unwatched[call]
        for call in slow:
            call.watch_end()

    def _end_overdue(self) -> None:
        """End the calls whose request did not come in time, and all of them when the server stops."""
        latest = time.monotonic() - self._limits.request_timeout_s
        while self.unread and (self._stopping or next(iter(self.unread.values())) < latest):
            self._end_oldest()
