"""`serve --workers N`: real processes on one address, one ledger and one PostgreSQL."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import asyncpg
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from entitlements.v1 import entitlement_service_pb2 as pb
from support.configuration import bearer, callers
from support.postgresql import PostgresqlServer, empty, waiting_for_a_lock
from support.rpc import Api, fails
from support.server_process import ServerProcess, run
from support.transports import TRANSPORTS
from support.waiting import until

OLD, NEW = (f"ent_{letter * 40}" for letter in "on")
LOCAL = (("grpc.use_local_subchannel_pool", 1),)
"""So that each channel has a connection of its own."""


@pytest.fixture(autouse=True)
def transport() -> None:
    """The default. What is shown here does not depend on it, and starts many processes."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    with PostgresqlServer() as server:
        yield server


@pytest.fixture
def store(postgresql: PostgresqlServer) -> str:
    """The URL of an empty ledger."""
    empty(postgresql)
    return postgresql.url


def workers_of(server: ServerProcess) -> set[int]:
    """The ids of the processes that a supervisor has started and that have not ended."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return {int(pid) for pid in children.read_text().split() if not is_gone(int(pid))}


def is_gone(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def get(url: str) -> str:
    with urlopen(url) as response:
        return str(response.read().decode())


def samples(server: ServerProcess, name: str) -> dict[str, float]:
    """The sums of a metric, by worker."""
    text = get(server.metrics_url)
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                worker = sample.labels.get("worker", "")
                found[worker] = found.get(worker, 0) + sample.value
    return found


@asynccontextmanager
async def connected(server: ServerProcess, count: int) -> AsyncIterator[list[Api]]:
    """So many connections: the kernel gives each to one of the workers."""
    async with AsyncExitStack() as stack:
        yield [
            Api(
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(server.address, options=LOCAL)
                )
            )
            for _ in range(count)
        ]


@pytest.mark.parametrize(
    ("store", "why"), [("memory://", "lost with its process"), ("sqlite", "one process")]
)
def test_a_store_that_one_process_has_is_refused_with_what_to_do_instead(
    store: str, why: str, tmp_path: Path
) -> None:
    url = f"sqlite://{tmp_path}/ledger.sqlite" if store == "sqlite" else store
    refused = run("serve", "--workers", "2", "--listen", "127.0.0.1:0", "--store", url)
    assert refused.returncode == 1
    assert refused.stderr.startswith("There cannot be 2 workers: ")
    assert why in refused.stderr
    assert "Use one worker" in refused.stderr
    assert "postgresql://" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_unix_domain_socket_cannot_be_shared(store: str, tmp_path: Path) -> None:
    refused = run("serve", "--workers", "2", "--listen", f"unix:{tmp_path}/s", "--store", store)
    assert refused.returncode == 1
    assert "only one process can listen" in refused.stderr


def test_what_keeps_the_first_worker_from_serving_is_said_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql://owner@127.0.0.1:{closed.getsockname()[1]}/ledger"
        refused = run("serve", "--workers", "3", "--listen", "127.0.0.1:0", "--store", url)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.count("PostgreSQL cannot be used") == 1


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_workers_share_the_connections_and_have_one_endpoint_for_metrics(
    store: str, kind: str
) -> None:
    options = ("--workers", "3", "--store", store, "--metrics-listen", "127.0.0.1:0")
    with ServerProcess(*options, "--transport", kind) as server:
        assert len(workers_of(server)) == 3
        async with connected(server, 40) as apis:
            await asyncio.gather(*(api.TopUp(user_id="ada", amount=1) for api in apis))
            assert {await api.balance("ada") for api in apis} == {40}
        made = samples(server, "entitlements_top_ups_total")
        assert set(made) == {"0", "1", "2"}
        assert sum(made.values()) == 40
        # That one of three gets none of 40 happens once in 4 million times.
        assert min(made.values()) > 0
        assert samples(server, "entitlements_store_up") == {"0": 1, "1": 1, "2": 1}
        assert samples(server, "entitlements_workers") == {"": 3}
        assert get(server.metrics_url.replace("/metrics", "/readyz")) == "SERVING\n"


async def test_a_worker_that_is_killed_is_replaced_and_the_others_fail_no_call(store: str) -> None:
    options = ("--workers", "2", "--store", store, "--metrics-listen", "127.0.0.1:0")
    with ServerProcess(*options) as server:
        async with connected(server, 16) as apis:
            behind = [(api, await worker_behind(api, server)) for api in apis]
            assert {worker for _, worker in behind} == {"0", "1"}
            # They were started in this order.
            victim, other = sorted(workers_of(server))
            os.kill(victim, signal.SIGKILL)
            for api, worker in behind:
                if worker == "1":
                    await api.TopUp(user_id="ada", amount=1)
            await until(lambda: samples(server, "entitlements_workers") == {"": 2})
        assert other in workers_of(server)
        assert victim not in workers_of(server)
        assert samples(server, "entitlements_worker_restarts_total") == {"": 1}
        assert f"pid={victim}" in server.log
        assert "status=-9" in server.log


async def worker_behind(api: Api, server: ServerProcess) -> str:
    """The worker that has the connection of a channel: the one that counts its call."""
    before = samples(server, "entitlements_top_ups_total")
    await api.TopUp(user_id="somebody", amount=1)
    after = samples(server, "entitlements_top_ups_total")
    [worker] = [one for one in after if after[one] > before[one]]
    return worker


async def test_a_reload_reaches_every_worker(store: str, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(callers(("web", "reader", OLD)))
    request = pb.GetAccountRequest(user_id="ada")
    with ServerProcess("--workers", "2", "--store", store, "--config", str(config)) as server:
        config.write_text(callers(("web", "reader", NEW)))
        server.signal(signal.SIGHUP)
        await until(lambda: server.log.count("The callers were reloaded.") == 2)
        async with connected(server, 12) as apis:
            for api in apis:
                await api.stub.GetAccount(request, metadata=bearer(NEW))
                failed = await fails(api.stub.GetAccount(request, metadata=bearer(OLD)))
                assert failed.reason == "UNAUTHENTICATED"


async def test_calls_in_flight_are_finished_when_the_workers_are_stopped(
    postgresql: PostgresqlServer, store: str
) -> None:
    """A charge waits for a lock in PostgreSQL when SIGTERM comes."""
    with ServerProcess("--workers", "2", "--store", store) as server:
        async with connected(server, 1) as [api]:
            await api.TopUp(user_id="ada", amount=10)
            holder = await asyncpg.connect(postgresql.url)
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("LOCK TABLE entitlements.accounts IN SHARE MODE")
            charge = asyncio.ensure_future(api.Consume(user_id="ada", feature="full_distribution"))
            await waiting_for_a_lock(postgresql)
            pids = workers_of(server)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await until(lambda: server.log.count("The server is stopping.") == 2)
            await transaction.rollback()
            await holder.close()
            assert (await charge).transaction.balance_after == 8
            await stopping
        assert all(is_gone(pid) for pid in pids)
        assert server.output.endswith("Stopped.\n")
        assert "A worker has ended" not in server.log


async def test_workers_end_with_a_supervisor_that_is_killed(store: str) -> None:
    """Nobody would replace them or pass signals on, and the address would be taken."""
    with ServerProcess("--workers", "2", "--store", store) as server:
        pids = workers_of(server)
        server.kill()
        await until(lambda: all(is_gone(pid) for pid in pids))
        server.start()


def test_an_address_that_workers_have_is_taken_for_everyone_else(store: str) -> None:
    with ServerProcess("--workers", "2", "--store", store) as server:
        for options in (("--workers", "2", "--store", store), ("--store", "memory://")):
            refused = run("serve", "--listen", server.address, *options)
            assert refused.returncode == 1
            assert "another server uses it" in refused.stderr
    with ServerProcess("--store", "memory://") as server:
        refused = run("serve", "--listen", server.address, "--workers", "2", "--store", store)
        assert refused.returncode == 1
        assert "another server uses it" in refused.stderr


async def test_the_address_stays_taken_while_every_worker_is_being_replaced(store: str) -> None:
    with ServerProcess("--workers", "2", "--store", store) as server:
        pids = workers_of(server)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        refused = run("serve", "--listen", server.address, "--store", "memory://")
        assert "another server uses it" in refused.stderr
        await until(lambda: server.log.count("A worker serves again.") == 2)
