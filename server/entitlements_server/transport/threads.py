"""The fallback: serves calls from gRPC's public server, on a thread pool.

It uses no private names. The price: a third of the calls per second, a thread for each call, and no
limits on calls without a request and on answers that are not read.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from entitlements_server.transport.address import listening, taken
from entitlements_server.transport.interface import (
    FOREVER_S,
    CallDispatcher,
    CallHandler,
    CallStatus,
    Metadata,
)
from entitlements_server.transport.options import Limits, options

NAME = "threads"

_ENDED_CALLS_DO_NOT_COUNT = ("grpc.http.overload_protection", 0)
"""Or gRPC's core counts calls against `max_streams` until their threads are done with them, and refuses
new ones of a client that keeps to it."""

MAX_THREADS = 256
"""Calls at a time, including streams; further ones wait for a thread."""

_END = object()
"""Marks the end of an answer."""


class _Call:
    """See interface.IncomingCall. Its thread sends what is put into `out`."""

    def __init__(self, path: str, context: Any) -> None:
        self.path = path
        self.metadata: Metadata = tuple(context.invocation_metadata())
        remaining = context.time_remaining()
        self.deadline_s: float | None = (
            None if remaining is None or remaining > FOREVER_S else time.monotonic() + remaining
        )
        self.out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.wanted = threading.Semaphore(0)
        self._context = context
        self._lock = threading.Lock()
        self._answered = False

    @property
    def answered(self) -> bool:
        """Whether it has been answered."""
        return self._answered

    def peer(self) -> str:
        """See IncomingCall."""
        return str(self._context.peer())

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """See IncomingCall."""
        found: Mapping[str, Sequence[bytes]] = self._context.auth_context()
        return found

    def has_room(self, size: int = 0) -> bool:  # noqa: ARG002  # see IncomingCall
        """See IncomingCall. gRPC's server does not report what it has sent."""
        return True

    def receive(self) -> None:
        """See IncomingCall."""
        self.wanted.release()

    def send(self, message: bytes) -> None:
        """See IncomingCall."""
        if not self._answered:
            self.out.put(message)

    def reply(self, message: bytes) -> None:
        """See IncomingCall."""
        if self._claim():
            self.out.put(message)
            self.out.put(_END)

    def finish(self) -> None:
        """See IncomingCall."""
        if self._claim():
            self.out.put(_END)

    def fail(self, status: CallStatus) -> None:
        """See IncomingCall."""
        if self._claim():
            self.out.put(status)

    def cancel(self) -> None:
        """End the call, which was cancelled."""
        self._claim()
        self.out.put(_END)

    def _claim(self) -> bool:
        with self._lock:
            if self._answered:
                return False
            self._answered = True
            return True


class ThreadsTransport:
    """See interface.Transport. Create it on the event loop.

    Args:
        dispatcher: Accepts the calls.
        address: Where to listen, as HOST:PORT or unix:/PATH.
        credentials: For TLS; None: plain text.
        limits: The limits of the transport.

    Raises:
        ListenError: The server cannot listen on the address.
    """

    name = NAME

    def __init__(
        self,
        dispatcher: CallDispatcher,
        address: str,
        credentials: grpc.ServerCredentials | None,
        limits: Limits,
    ) -> None:
        self._pool = ThreadPoolExecutor(MAX_THREADS, "grpc")
        self._server = grpc.server(
            self._pool,
            handlers=[_Handler(dispatcher)],
            options=(*options(limits), _ENDED_CALLS_DO_NOT_COUNT),
        )
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise taken(address) from error
        if not port:
            raise taken(address)
        self.address = listening(address, port)
        self._server.start()

    async def stop(self, grace_s: float) -> None:
        """See interface.Transport."""
        stopped = self._server.stop(grace_s)
        await asyncio.get_running_loop().run_in_executor(None, stopped.wait)
        self._pool.shutdown(wait=False)


class _Handler(grpc.GenericRpcHandler):
    """Accepts every call, on any path, as bidirectional streaming."""

    def __init__(self, dispatcher: CallDispatcher) -> None:
        self._dispatcher = dispatcher
        # The interface promises the API one thread at a time.
        self._one_at_a_time = threading.Lock()

    def service(self, handler_call_details: Any) -> Any:
        """See grpc.GenericRpcHandler."""
        path = handler_call_details.method

        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            return self._serve(_Call(path, context), requests, context)

        return grpc.stream_stream_rpc_method_handler(serve)

    def _serve(self, call: _Call, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        with self._one_at_a_time:
            handler = self._dispatcher.begin(call)
        try:
            if not context.add_callback(call.cancel):
                call.cancel()  # It is over already.
            if not call.answered:
                self._read(handler, requests)
            while (message := call.out.get()) is not _END:
                if isinstance(message, CallStatus):
                    context.set_trailing_metadata(message.trailers)
                    context.abort(message.code, message.message)
                yield message
                if not call.answered:
                    self._notify(handler.sent)
                    if call.wanted.acquire(blocking=False):
                        self._read(handler, requests)
        finally:
            self._notify(handler.ended)

    def _read(self, handler: CallHandler, requests: Iterator[bytes]) -> None:
        try:
            message = next(requests)
        except StopIteration:
            self._notify(handler.half_closed)
        except grpc.RpcError:
            return  # The call is over.
        else:
            self._notify(lambda: handler.received(message))

    def _notify(self, happen: Callable[[], None]) -> None:
        with self._one_at_a_time:
            happen()
