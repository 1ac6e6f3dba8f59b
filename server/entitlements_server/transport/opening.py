"""Which transport serves: the fast one, unless it is not wanted or cannot be had."""

import logging
from typing import Literal

import grpc
import structlog

from entitlements_server.transport.interface import CallDispatcher, Transport
from entitlements_server.transport.options import Limits

log = structlog.get_logger()

Kind = Literal["completion-queue", "threads"]
"""The transports that there are."""


async def open_transport(
    kind: Kind,
    dispatcher: CallDispatcher,
    address: str,
    credentials: grpc.ServerCredentials | None,
    limits: Limits,
) -> Transport:
    """Begin to serve.

    Args:
        kind: Which transport; where the completion queue cannot be driven, threads serve instead.
        dispatcher: Takes the calls.
        address: Where to listen, as HOST:PORT; port 0 takes a free one.
        credentials: For TLS; None: plain text.
        limits: Of the transport.

    Raises:
        ListenError: The address cannot be listened on.
    """
    # It writes a traceback for each metadata value that is no UTF-8.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL + 1)
    from entitlements_server.transport.threads import ThreadsTransport  # noqa: PLC0415  # either

    if kind == "completion-queue":
        try:
            # Importing it already asks for private names of gRPC.
            from entitlements_server.transport import completion_queue  # noqa: PLC0415

            await completion_queue.check()
        except (ImportError, AttributeError, TypeError, RuntimeError) as error:
            log.warning(
                "This version of grpcio cannot be driven by its completion queue, so a pool of"
                " threads serves, at about a third of the rate: install a version that this"
                " release was tested with.",
                grpcio=grpc.__version__,
                cause=repr(error),
            )
        else:
            return completion_queue.CompletionQueueTransport(
                dispatcher, address, credentials, limits
            )
    log.warning(
        "A pool of threads serves, 256 calls at a time. It does not bound calls whose request never"
        " comes, nor answers that are not read, and it waits for idle streams when it stops: let"
        " nobody reach it whom you do not trust."
    )
    return ThreadsTransport(dispatcher, address, credentials, limits)
