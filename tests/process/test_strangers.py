"""Strangers at the server's port, with the defaults that ship: the honest go on being served.

Short forms of `faults/strangers.py`, which has the rates and the full lengths. Here every honest caller has to
be answered, each time within its deadline.
"""

import pytest

from faults import attacks, logs
from faults.attacked import TOKEN, exit_seconds, fill, serving, with_callers, with_tls
from faults.floods import Flood, flood
from faults.honest import CLIENTS, Honest
from faults.peak import Peak
from faults.strangers import (
    CORE_CANCELS,
    GROWTH_MIB,
    LOG_BYTES,
    SILENT_GROWTH_MIB,
    UNFINISHED,
)

RATE = 200.0
CLOSED = {Flood.RESET, Flood.MESSAGE_RESET, Flood.PING}
"""Floods whose connection is closed; what the others cost is bounded."""


@pytest.fixture
def transport() -> str:
    """The bounds are those of the completion queue; what ships uses it."""
    return "completion-queue"


JSON = ("--log-format", "json")


def test_a_path_that_is_no_utf8_is_an_unknown_method_and_harms_no_call() -> None:
    with serving() as server, Honest(server.address) as honest:
        outcomes = attacks.bad_paths(server.address, 100, 30)
        phases = honest.finish()
        assert server.is_up
    assert outcomes == {"12": 100}
    assert not phases["warm-up"].failures


def test_with_callers_a_path_that_is_no_utf8_is_unauthenticated() -> None:
    with (
        with_callers() as options,
        serving(*options) as server,
        Honest(server.address, token=TOKEN) as honest,
    ):
        outcomes = attacks.bad_paths(server.address, 100, 30)
        phases = honest.finish()
    assert outcomes == {"16": 100}
    assert not phases["warm-up"].failures


@pytest.mark.parametrize("kinds", UNFINISHED, ids=" and ".join)
def test_on_sigterm_it_does_not_wait_for_calls_that_never_end(kinds: tuple[str, ...]) -> None:
    # It takes well under a second, where such calls were once waited for until --drain-seconds was over.
    assert exit_seconds(kinds, 5) < 3


@pytest.mark.parametrize("connections", [1, 8])
def test_answers_that_nobody_reads_take_a_bounded_part_of_memory(connections: int) -> None:
    with serving() as server:
        request = fill(server.address)
        with Honest(server.address, rate=RATE) as honest, Peak(server.pid) as peak:
            honest.phase("attack")
            held = attacks.unread_answers(server.address, request, 304, connections, 20)
            phase = honest.finish()["attack"]
    assert held.begun == 304
    assert peak.growth_mib < GROWTH_MIB
    assert not phase.failures
    assert phase.calls >= CLIENTS


def test_calls_whose_message_never_comes_are_ended_and_take_a_bounded_part_of_memory() -> None:
    with (
        serving() as server,
        Honest(server.address, rate=RATE) as honest,
        Peak(server.pid) as peak,
    ):
        honest.phase("attack")
        held = attacks.silent_calls(server.address, 8000, 25)
        phase = honest.finish()["attack"]
    assert held.begun == 8000
    assert held.open == 0
    assert peak.growth_mib < SILENT_GROWTH_MIB
    assert set(phase.failures) <= {CORE_CANCELS}
    assert phase.calls >= CLIENTS


def test_connections_beyond_the_limit_are_closed_and_those_before_stay() -> None:
    with serving("--max-connections", "40") as server, Honest(server.address, rate=RATE) as honest:
        honest.phase("attack")
        kept = attacks.idle_connections(server.address, 100, 20)
        phase = honest.finish()["attack"]
    # The honest have 16 of the 40.
    assert 0 < kept <= 24
    assert phase.calls > 0
    assert not phase.failures


@pytest.mark.parametrize("kind", Flood, ids=str)
def test_beside_a_flood_of_cheap_frames_honest_callers_are_served(kind: Flood) -> None:
    with (
        serving() as server,
        Honest(server.address, rate=RATE) as honest,
        Peak(server.pid) as peak,
    ):
        honest.phase("flood")
        # One that is closed is over then, be it after a moment or, on a busy machine, later.
        flooded = flood(server.address, kind, 30 if kind in CLOSED else 3)
        phase = honest.finish()["flood"]
    assert flooded.sent > 0
    assert flooded.closed or kind not in CLOSED
    assert peak.growth_mib < GROWTH_MIB
    assert phase.calls >= CLIENTS
    assert not phase.failures


async def test_a_stranger_with_a_thousand_watches_takes_nobody_elses() -> None:
    with serving() as server:
        seen = await attacks.watches(server.address, 1000)
    assert seen.other_watch == "SERVING"
    assert seen.own_call == "OK"
    assert 0 < seen.served < 1000
    assert set(seen.ended) <= {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    assert seen.served + seen.ended.total() == 1000


def test_watches_that_were_turned_down_take_no_room_on_their_connection() -> None:
    """Were they kept, the limit of streams would be reached, and each later call reset (REFUSED_STREAM)."""
    with serving() as server:
        held = attacks.surplus_watches(server.address, 8, 200)
    assert 0 < held.open < 1600
    assert held.open + held.statuses["14"] + held.statuses["8"] == 1600


def test_metadata_that_is_no_ascii_does_not_fill_the_log() -> None:
    with serving(*JSON) as server:
        answered = attacks.noisy_metadata(server.address, 500)
        log = server.log
    assert answered == 500
    assert not logs.lines_without_json(log)
    assert len(log) < LOG_BYTES


def test_failed_handshakes_are_counted_and_do_not_fill_the_log() -> None:
    with (
        with_tls() as tls,
        serving(*tls, *JSON, "--metrics-listen", "127.0.0.1:0") as server,
    ):
        assert attacks.no_handshakes(server.address, 100) == 100
        counted = logs.handshake_failures(server.metrics_url, 100)
        log = server.log
    assert counted >= 100
    assert not logs.lines_without_json(log)
    assert len(log) < LOG_BYTES
