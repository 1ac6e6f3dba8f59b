"""What is served over HTTP, beside gRPC: `/metrics`, and `/livez` and `/readyz` for probes. Anything else is 404."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_TEXT = "text/plain; charset=utf-8"
_TIMEOUT_S = 30


@contextmanager
def serving_http(
    listen: str, registry: CollectorRegistry, ready: Callable[[], bool]
) -> Iterator[str]:
    """Serve while the block runs, on a thread of its own. Yields the address, as HOST:PORT.

    Args:
        listen: Where to listen, as HOST:PORT.
        registry: The metrics.
        ready: Returns whether the server is SERVING.

    Raises:
        OSError: It cannot listen there.
    """
    name, _, port = listen.rpartition(":")
    host = name.strip("[]")

    class Server(ThreadingHTTPServer):
        address_family = socket.getaddrinfo(host, int(port))[0][0]
        # A scrape that hangs must not hold up the end.
        daemon_threads = True
        block_on_close = False

    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S
        server_version = "entitlements-server"
        sys_version = ""

        def do_GET(self) -> None:
            match urlsplit(self.path).path:
                case "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(HTTPStatus.OK, encode(registry), content_type)
                case "/livez":
                    self._answer(HTTPStatus.OK, b"ok\n")
                case "/readyz" if ready():
                    self._answer(HTTPStatus.OK, b"SERVING\n")
                case "/readyz":
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"NOT_SERVING\n")
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, b"There are /metrics, /livez and /readyz.\n")

        do_HEAD = do_GET  # noqa: N815  # its name in http.server

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str = _TEXT) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            """Nothing: probes come every few seconds."""

    with Server((host, int(port)), Handler) as server:
        thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield f"{name}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
