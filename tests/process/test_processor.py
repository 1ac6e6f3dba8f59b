"""Which threads of a server stay on one processor."""

import os
from pathlib import Path

import pytest

from support.server_process import ServerProcess
from support.waiting import until

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) == 1,
    reason="Linux with more than one processor is needed to see threads placed.",
)

THREADS_OF_GRPC = ("event_engine", "lifeguard", "grpc_global_tim")
"""How gRPC's core names its threads."""


def placements(server: ServerProcess, *, of_grpc: bool) -> list[set[int]]:
    """Return on which processors each thread of the server may be: those of gRPC's core, or all others."""
    found = []
    for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
        is_grpc = (thread / "comm").read_text().startswith(THREADS_OF_GRPC)
        if is_grpc == of_grpc:
            found.append(os.sched_getaffinity(int(thread.name)))
    return found


@pytest.mark.parametrize("transport", ["completion-queue"], indirect=True)
async def test_the_threads_that_run_python_are_on_one_processor_and_those_of_grpc_on_any() -> None:
    with ServerProcess() as server:
        await until(lambda: all(len(one) == 1 for one in placements(server, of_grpc=False)))
        assert len(set(map(frozenset, placements(server, of_grpc=False)))) == 1
        of_grpc = placements(server, of_grpc=True)
        assert of_grpc
        assert all(one == os.sched_getaffinity(0) for one in of_grpc)


@pytest.mark.parametrize("transport", ["threads"], indirect=True)
async def test_a_pool_of_threads_is_left_to_the_system() -> None:
    with ServerProcess() as server:
        every = os.sched_getaffinity(0)
        assert all(one == every for one in placements(server, of_grpc=False))


async def test_an_operator_may_leave_all_threads_to_the_system() -> None:
    with ServerProcess("--no-one-processor") as server:
        every = os.sched_getaffinity(0)
        assert all(one == every for one in placements(server, of_grpc=False))
