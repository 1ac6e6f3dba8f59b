"""Chooses the transport: the fast one, unless another is configured or it does not work."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal

import grpc
import structlog

from entitlements_server.transport.address import require_free
from entitlements_server.transport.interface import CallDispatcher, IncomingCall, Transport
from entitlements_server.transport.options import Limits

log = structlog.get_logger()

_CHECK_S = 5.0

Kind = Literal["completion-queue", "threads"]
"""The transports."""


async def open_transport(
    kind: Kind,
    dispatcher: CallDispatcher,
    address: str,
    credentials: grpc.ServerCredentials | None,
    limits: Limits,
) -> Transport:
    """Start to serve.

    Args:
        kind: The transport. If the completion queue does not work, threads serve instead.
        dispatcher: Accepts the calls.
        address: Where to listen, as HOST:PORT or unix:/PATH; port 0: any free port.
        credentials: For TLS; None: plain text.
        limits: The limits of the transport.

    Raises:
        ListenError: The server cannot listen on the address.
    """
    require_free(address)
    # It logs a traceback for each metadata value that is not UTF-8.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL + 1)
    from entitlements_server.transport.threads import ThreadsTransport  # noqa: PLC0415  # either

    if kind == "completion-queue":
        try:
            # The import alone already uses private names of gRPC.
            from entitlements_server.transport import completion_queue  # noqa: PLC0415

            await check(completion_queue.CompletionQueueTransport)
        except (ImportError, AttributeError, TypeError, RuntimeError) as error:
            log.warning(
                "The completion queue of this grpcio version cannot be used, so a thread pool serves"
                " at about a third of the rate: install a grpcio version that this release was"
                " tested with.",
                grpcio=grpc.__version__,
                cause=repr(error),
            )
        else:
            return completion_queue.CompletionQueueTransport(
                dispatcher, address, credentials, limits
            )
    log.warning(
        "A thread pool serves, 256 calls at a time. It does not limit calls without a request or"
        " answers that are not read, and waits for idle streams when it stops: do not let untrusted"
        " clients reach it."
    )
    return ThreadsTransport(dispatcher, address, credentials, limits)


async def check(make: Callable[..., Transport]) -> None:
    """Check that a transport works, with one call on loopback.

    Raises:
        RuntimeError: It does not.
    """
    transport = make(_Echo(), "127.0.0.1:0", None, Limits())

    def call() -> bytes:
        with grpc.insecure_channel(transport.address) as channel:
            method: Any = channel.unary_unary("/check")
            return bytes(method(b"echo", timeout=_CHECK_S))

    try:
        answer = await asyncio.get_running_loop().run_in_executor(None, call)
    except grpc.RpcError as error:
        raise RuntimeError(f"A call on loopback failed: {error}.") from error
    finally:
        await transport.stop(0)
    if answer != b"echo":
        raise RuntimeError("A call on loopback was not answered with its request.")


class _Echo:
    """Answers each call with its request."""

    def __init__(self, call: IncomingCall | None = None) -> None:
        self._call = call

    def begin(self, call: IncomingCall) -> "_Echo":
        """See CallDispatcher."""
        return _Echo(call)

    def received(self, message: bytes) -> None:
        """See CallHandler."""
        assert self._call is not None
        self._call.reply(message)

    def half_closed(self) -> None:
        """See CallHandler."""

    overdue = sent = ended = half_closed
