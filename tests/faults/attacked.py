"""A server that is going to be attacked, and what stands in its ledger and its configuration."""

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import grpc

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from entitlements_server.ledger.limits import MAX_KEY_BYTES, MAX_TEXT_BYTES
from faults import attacks
from faults.servers import ledger_in
from support.certificates import Authority, ServerFiles
from support.raw_http2 import Connection
from support.server_process import ServerProcess

TOKEN = "ent_honest"
ROWS = 1000
"""Of the history that is listed; each about 900 bytes long."""

_AT_ONCE = 100


@contextmanager
def serving(*options: str) -> Iterator[ServerProcess]:
    """A server on a new ledger, with the defaults that ship."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("--store", ledger_in(Path(folder)), *options) as server,
    ):
        yield server


@contextmanager
def with_callers(others: int = 0) -> Iterator[tuple[str, str]]:
    """The options of a server whose honest caller has TOKEN, and which has others with 8 tokens each."""
    entries = [_caller("honest", TOKEN)]
    entries += [
        _caller(f"other-{number}", *(f"ent_{number}_{each}" for each in range(8)))
        for number in range(others)
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "server.toml")
        config.write_text("\n".join(entries))
        yield ("--config", str(config))


def _caller(name: str, *tokens: str) -> str:
    hashes = [sha256(token.encode()).hexdigest() for token in tokens]
    return f'[[callers]]\nname = "{name}"\nroles = ["charger", "funder"]\ntoken_sha256 = {hashes}\n'


@contextmanager
def with_tls() -> Iterator[tuple[str, ...]]:
    """The options of a server with TLS."""
    with tempfile.TemporaryDirectory() as folder:
        files = ServerFiles(Path(folder), Authority())
        yield ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))


def exit_seconds(kinds: tuple[str, ...], limit_s: float) -> float:
    """How long a server takes to leave, by SIGTERM, with unfinished calls of these kinds.

    The stranger answers the server's PINGs until the end.
    """
    with serving() as server, Connection(server.address) as stranger:
        assert attacks.unfinished_calls(stranger, kinds)
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        while not stranger.closed and time.monotonic() < begin + limit_s:
            stranger.wait(lambda: False, 0.01)
        server.process.wait(max(begin + limit_s - time.monotonic(), 0.01))
        return time.monotonic() - begin


def fill(address: str) -> bytes:
    """Give one user a long history of long records; returns the request that lists it."""
    with grpc.insecure_channel(address) as channel:
        stub = EntitlementServiceStub(channel)
        requests = [
            pb.TopUpRequest(
                user_id="ada",
                amount=1,
                reason="r" * MAX_TEXT_BYTES,
                idempotency_key=f"{number:0{MAX_KEY_BYTES}}",
            )
            for number in range(ROWS)
        ]
        for first in range(0, ROWS, _AT_ONCE):
            made = [stub.TopUp.future(each) for each in requests[first : first + _AT_ONCE]]
            for top_up in made:
                top_up.result()
        request = pb.ListTransactionsRequest(user_id="ada", page_size=ROWS)
        # What such an answer takes for a moment, the allocator keeps.
        for call in [stub.ListTransactions.future(request) for _ in range(4)]:
            assert len(call.result().transactions) == ROWS
    return request.SerializeToString()
