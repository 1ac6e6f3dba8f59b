"""What Python services usually stand on: grpc.aio on uvloop, whose handler does nothing."""

import asyncio
from typing import Any

import grpc
import uvloop

from references.answer import ANSWER


class Nothing(grpc.GenericRpcHandler):
    """Answers every path with the same bytes, and looks at no request."""

    def __init__(self) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(self._answer)

    def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002  # any path will do
        """Return the one handler."""
        return self._handler

    async def _answer(self, _request: bytes, _context: Any) -> bytes:
        return ANSWER


async def serve() -> None:
    """Serve on a free port of loopback until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Nothing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"Listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
