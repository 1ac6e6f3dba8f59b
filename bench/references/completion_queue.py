# What grpcio keeps private has no types.
# mypy: disable-error-code="attr-defined"
"""The least that gRPC costs from Python: its completion queue, polled by one thread that does nothing else.

These names are private to grpcio. They are used here as its own synchronous server uses them.
"""

import time
from typing import Any

from grpc._cython import cygrpc

from references.answer import ANSWER

_WAITING = 256
"""Calls that the core may take up before it is asked again."""

_NEW_CALL = object()
_NOTHING = 0


def _ignore(_: Any) -> None:
    """Take note that a batch is done, which nobody waits for."""


class Answer:
    """Answers one call once its message is there; the tag under which that arrives."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, _event: Any) -> None:
        """Send the same bytes whatever was asked."""
        self._call.start_server_batch(
            (
                cygrpc.SendInitialMetadataOperation(None, _NOTHING),
                cygrpc.SendMessageOperation(ANSWER, _NOTHING),
                cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NOTHING),
            ),
            _ignore,
        )


def serve() -> None:
    """Serve on a free port of loopback until the process is ended."""
    queue = cygrpc.CompletionQueue()
    server = cygrpc.Server(((b"grpc.so_reuseport", 0),), False)  # a private API
    server.register_completion_queue(queue)
    port = server.add_http2_port(b"127.0.0.1:0")
    server.start()
    for _ in range(_WAITING):
        server.request_call(queue, queue, _NEW_CALL)
    print(f"Listening on 127.0.0.1:{port}", flush=True)
    while True:
        event = queue.poll(deadline=time.time() + 1)
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            continue
        if event.tag is not _NEW_CALL:
            event.tag(event)
            continue
        server.request_call(queue, queue, _NEW_CALL)
        event.call.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(_NOTHING),), _ignore)
        event.call.start_server_batch(
            (cygrpc.ReceiveMessageOperation(_NOTHING),), Answer(event.call)
        )


if __name__ == "__main__":
    serve()
