"""Those that are measured in turns: the service as it ships and with all off, and the references."""

import secrets
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from generators import generator
from generators.load import Target
from references.postgresql import Cluster, cluster, programs
from servers import Server, reference, serving, warm_up
from users import MANY
from workloads import COMPLETION_QUEUE, FASTAPI, GRPC_AIO

SHIPS = "as it ships"
OFF = "all off"
_POOL = 16
_CALLERS = """
[[callers]]
name = "bench"
roles = ["reader", "charger", "funder"]
token_sha256 = "{}"
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that take turns.

    Attributes:
        name: As the report has it.
        server: What is measured.
        target: What the generator is told of it.
        empty: Whether it answers the same bytes whatever is asked.
        generator: The name of a generator of its own, in place of the workload's.
    """

    name: str
    server: Server
    target: Target
    empty: bool = False
    generator: str = ""


@asynccontextmanager
async def empty_server(module: str, name: str, token: str) -> AsyncIterator[Side]:
    """Run an empty server while the block runs."""
    async with reference(module) as server:
        yield Side(name, server, Target(server.address, token), empty=True)


@asynccontextmanager
async def own_cluster() -> AsyncIterator[Cluster]:
    """Run a PostgreSQL cluster while the block runs."""
    folder = programs()
    assert folder is not None, "`missing` says before that there is none."
    async with cluster(folder) as database:
        yield database


@asynccontextmanager
async def fastapi_postgresql(token: str, database: Cluster) -> AsyncIterator[Side]:
    """Run the service over HTTP on a PostgreSQL cluster while the block runs."""
    environment = {"DATABASE_URL": database.url, "POOL": str(_POOL), "USERS": str(MANY)}
    others = (database.process,)
    async with reference("fastapi_postgresql", environment=environment, others=others) as server:
        yield Side(FASTAPI, server, Target(server.address, token), generator="wrk")


@asynccontextmanager
async def sides(ledger: Path, references: Collection[str]) -> AsyncIterator[list[Side]]:
    """Run the service twice, each on its own copy of a ledger, and those references.

    Every call to anyone carries the same bearer token, also to those that don't look at it, so that
    the generators' work is the same.
    """
    token = f"ent_{secrets.token_urlsafe(32)}"
    config = ledger.with_suffix(".toml")
    config.write_text(_CALLERS.format(sha256(token.encode()).hexdigest()))
    copy = ledger.with_name(f"off-{ledger.name}")
    shutil.copyfile(ledger, copy)
    async with AsyncExitStack() as stack:
        found = []
        for name, path, options in (
            (SHIPS, ledger, ("--metrics-listen", "127.0.0.1:0", "--config", str(config))),
            (OFF, copy, ()),
        ):
            # That it has started isn't worth a line in the middle of a progress display.
            server = await stack.enter_async_context(
                serving(f"sqlite://{path}", "--log-level", "warning", *options)
            )
            found.append(Side(name, server, Target(server.address, token)))
        if GRPC_AIO in references:
            side = empty_server("grpc_aio", GRPC_AIO, token)
            found.append(await stack.enter_async_context(side))
        if COMPLETION_QUEUE in references:
            side = empty_server("completion_queue", COMPLETION_QUEUE, token)
            found.append(await stack.enter_async_context(side))
        if FASTAPI in references:
            database = await stack.enter_async_context(own_cluster())
            found.append(await stack.enter_async_context(fastapi_postgresql(token, database)))
        yield found


async def warm_up_all(found: Collection[Side]) -> None:
    """Read every account of the service's ledgers once."""
    for side in found:
        if side.name in (SHIPS, OFF):
            await warm_up(side.target)


def missing() -> dict[str, str]:
    """Return what can't be measured here, by name of reference or generator, and why not."""
    found = {}
    if generator("h2load") is None:
        found["h2load"] = "h2load isn't installed (Debian has it in nghttp2-client)"
    if generator("wrk") is None:
        found[FASTAPI] = "wrk isn't installed"
    elif programs() is None:
        found[FASTAPI] = "there is no PostgreSQL server (initdb)"
    elif not (find_spec("asyncpg") and find_spec("httptools")):
        found[FASTAPI] = (
            "its packages aren't installed (bench/requirements.txt; `make bench` does it)"
        )
    return found
