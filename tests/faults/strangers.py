"""Strangers beside honest callers: whatever comes over the wire, the honest go on being served.

Each attack of `attacks.py` at full length against a server of its own, with `honest.py` charging in
another process meanwhile. The rates are ratios within one run, on one machine.
"""

import asyncio
import time
from collections import Counter

from faults import attacks, logs
from faults.attacked import TOKEN, exit_seconds, fill, serving, with_callers, with_tls
from faults.figures import Advance, Report, silent
from faults.floods import Flood, flood
from faults.honest import Honest, Phase
from faults.peak import Peak

BAD_PATHS = 1000
GROWTH_MIB = 64
SILENT_GROWTH_MIB = 192
"""8,192 calls that the core has accepted, at 14 kB, and 1,024 whose request does not come, at 17 kB, are 132 MB."""

CORE_CANCELS = "CANCELLED: CANCELLED"
"""How the core ends a call beyond those 8,192, whoever it is from. Nothing was charged, and clients try again."""

EXIT_S = 1.0
ENDED_S = 15.0
"""A call whose message never comes is ended after about ten seconds."""

P99_MS = 100.0
KEPT = 0.5
"""Share of their rate that honest callers keep beside a flood."""

SERVED = 0.1
"""Share of their rate at which honest callers count as served while others fill the memory."""

SLOWER = 3.0
"""Times the median latency that honest callers may have beside wrong tokens: these cost something, too."""

LOG_BYTES = 2**16
UNFINISHED = (("watch",), ("reflection",), ("no message",), ("watch", "reflection", "no message"))
_LIGHT = 200.0
_MODERATE = 500.0
_FLOOD_S = 5.0


def check(size: int, advance: Advance = silent) -> Report:
    """Make every attack once, the first one `size` times."""
    report = Report()
    _bad_paths(report, size, advance)
    _leaving(report)
    for connections in (1, 8):
        _unread_answers(report, connections)
    _silent_calls(report)
    for kind in Flood:
        _flood(report, kind)
    _watches(report)
    _wrong_tokens(report)
    _noise(report)
    return report


def _bad_paths(report: Report, size: int, advance: Advance) -> None:
    outcomes: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    ended: Counter[int] = Counter()  # by exit status: below 0 it is a signal
    calls = 0
    for number in range(size):
        with with_callers() as options, serving(*(options if number % 2 else ())) as server:
            with Honest(server.address, token=TOKEN) as honest:
                outcomes += attacks.bad_paths(server.address, BAD_PATHS, 60)
                phases = honest.finish()
            if (status := server.process.poll()) is not None:
                ended[status] += 1
        for phase in phases.values():
            calls += phase.calls
            failures += Counter(phase.failures)
        advance(1)
    report.note("A1: paths that are no UTF-8", outcomes.total(), f"{size * BAD_PATHS:,}")
    report.note("A1: of these answered UNIMPLEMENTED or UNAUTHENTICATED", outcomes["12"] + outcomes["16"], "all")  # fmt: skip
    report.note("A1: honest calls answered", calls)
    report.note("A1: honest calls that failed", failures.total(), "0")
    report.note("A1: runs in which the process ended", str(dict(ended)), "{}")
    report.require(set(outcomes) <= {"12", "16"}, f"A1: bad paths were answered {dict(outcomes)}")
    report.require(not failures, f"A1: honest calls failed: {dict(failures)}")
    report.require(not ended, f"A1: the server ended in {ended.total()} of {size} runs")


def _leaving(report: Report) -> None:
    for kinds in UNFINISHED:
        seconds = exit_seconds(kinds, 60)
        report.note(f"A2: exit with {', '.join(kinds)}, seconds", seconds, f"{EXIT_S:.0f}")
        report.require(seconds < EXIT_S, f"A2: exit took {seconds:.1f} s with {kinds}")


def _unread_answers(report: Report, connections: int) -> None:
    name = f"A3, {connections} connections"
    with serving() as server:
        request = fill(server.address)
        with Honest(server.address, rate=_LIGHT) as honest, Peak(server.pid) as peak:
            honest.phase("attack")
            held = attacks.unread_answers(server.address, request, 1000, connections, 60)
            phase = honest.finish()["attack"]
    report.note(f"{name}: lists asked for and not read", held.begun, "1,000")
    report.note(f"{name}: rejected", str(dict(held.statuses)))
    _note_bounds(report, name, peak, phase)


def _silent_calls(report: Report) -> None:
    name = "A4"
    with (
        serving() as server,
        Honest(server.address, rate=_LIGHT) as honest,
        Peak(server.pid) as peak,
    ):
        honest.phase("attack")
        held = attacks.silent_calls(server.address, 24_000, 40)
        phase = honest.finish()["attack"]
    report.note(f"{name}: calls without a message", held.begun, "24,000")
    report.note(f"{name}: over connections", held.connections)
    report.note(f"{name}: ends", str(dict(held.statuses)))
    report.note(f"{name}: left open", held.open, "0")
    report.note(f"{name}: seconds until the last ended", held.seconds)
    report.require(held.open == 0, f"{name}: {held.open} calls are still open")
    _note_bounds(
        report,
        name,
        peak,
        phase,
        growth_mib=SILENT_GROWTH_MIB,
        may_fail=frozenset((CORE_CANCELS,)),
    )


def _note_bounds(
    report: Report,
    name: str,
    peak: Peak,
    phase: Phase,
    *,
    growth_mib: float = GROWTH_MIB,
    may_fail: frozenset[str] = frozenset(),
) -> None:
    report.note(f"{name}: memory before, MiB", peak.before_mib)
    report.note(f"{name}: memory at most, MiB", peak.most_mib, f"+{growth_mib}")
    report.note(f"{name}: honest calls a second, of {_LIGHT:.0f}", phase.rate)
    report.note(f"{name}: honest p99, ms", phase.p99_ms)
    report.require(peak.growth_mib < growth_mib, f"{name}: grew by {peak.growth_mib:.0f} MiB")
    report.require(phase.rate >= SERVED * _LIGHT, f"{name}: {phase.rate:.0f} honest calls/s")
    report.note(f"{name}: honest calls that failed", str(phase.failures))
    report.require(
        set(phase.failures) <= may_fail, f"{name}: honest calls failed: {phase.failures}"
    )


def _flood(report: Report, kind: Flood) -> None:
    name = f"A5, {kind}"
    with (
        serving() as server,
        Honest(server.address, rate=_MODERATE) as honest,
        Peak(server.pid) as peak,
    ):
        honest.phase("alone")
        time.sleep(_FLOOD_S)
        honest.phase("flood")
        flooded = flood(server.address, kind, _FLOOD_S)
        # A flood that was ended early is over; what is left of its time counts all the same.
        time.sleep(max(_FLOOD_S - flooded.seconds, 0))
        honest.phase("floods")
        again = flood(server.address, kind, _FLOOD_S, again=True)
        phases = honest.finish()
    alone, one, many = phases["alone"], phases["flood"], phases["floods"]
    report.note(f"{name}: sent", flooded.sent)
    report.note(f"{name}: sent for, seconds, until ended", flooded.seconds)
    report.note(f"{name}: ended by the server", "yes" if flooded.closed else "no")
    report.note(f"{name}: GOAWAY", str(dict(flooded.goaways)))
    report.note(f"{name}: growth of memory, MiB", peak.growth_mib, f"{GROWTH_MIB}")
    report.note(f"{name}: share of the honest rate kept", one.rate / alone.rate, f"{KEPT}")
    report.note(f"{name}: honest p99 alone, ms", alone.p99_ms)
    report.note(f"{name}: honest p99, ms", one.p99_ms, f"{P99_MS:.0f}")
    report.note(f"{name}, connecting again: connections", again.connections)
    report.note(f"{name}, connecting again: sent", again.sent)
    report.note(f"{name}, connecting again: share kept", many.rate / alone.rate)
    report.note(f"{name}, connecting again: honest p99, ms", many.p99_ms)
    failures = one.failures
    report.require(
        flooded.closed > 0 or peak.growth_mib < GROWTH_MIB,
        f"{name}: neither ended nor bounded: {peak.growth_mib:.0f} MiB",
    )
    report.require(not failures, f"{name}: honest calls failed: {failures}")
    report.require(one.rate >= KEPT * alone.rate, f"{name}: {one.rate:.0f} honest calls/s")
    # On a machine that is busy with other things calls are slow without a flood, too.
    limit_ms = max(P99_MS, 2 * alone.p99_ms)
    report.require(one.p99_ms < limit_ms, f"{name}: honest p99 {one.p99_ms:.0f} ms")


def _watches(report: Report) -> None:
    with serving() as server:
        seen = asyncio.run(attacks.watches(server.address, 1000))
    report.note("A6: watches served of 1,000 on one connection", seen.served)
    report.note("A6: the others", str(dict(seen.ended)), "UNAVAILABLE or RESOURCE_EXHAUSTED")
    report.note("A6: a call over the same connection", seen.own_call, "OK")
    report.note("A6: another client's watch", seen.other_watch, "SERVING")
    surplus = set(seen.ended) - {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    report.require(0 < seen.served < 1000, f"A6: {seen.served} watches were served")
    report.require(not surplus, f"A6: the surplus ended as {dict(seen.ended)}")
    report.require(seen.own_call == "OK", f"A6: the stranger's own call: {seen.own_call}")
    report.require(seen.other_watch == "SERVING", f"A6: another watch: {seen.other_watch}")


def _wrong_tokens(report: Report) -> None:
    with (
        with_callers(999) as options,
        serving(*options) as server,
        Honest(server.address, rate=_LIGHT, token=TOKEN) as honest,
    ):
        honest.phase("alone")
        time.sleep(_FLOOD_S)
        honest.phase("attack")
        statuses = attacks.wrong_tokens(server.address, 1400, _FLOOD_S)
        phases = honest.finish()
    alone, attack = phases["alone"], phases["attack"]
    report.note("A7: wrong tokens a second, of 1,400", statuses.total() / _FLOOD_S)
    report.note("A7: answered", str(dict(statuses)), "16: UNAUTHENTICATED")
    report.note("A7: honest p50 alone, ms", alone.p50_ms)
    report.note("A7: honest p50, ms", attack.p50_ms, f"{SLOWER:.0f} times that")
    report.require(set(statuses) == {"16"}, f"A7: wrong tokens were answered {dict(statuses)}")
    report.require(not attack.failures, f"A7: honest calls failed: {attack.failures}")
    report.require(
        attack.p50_ms < SLOWER * alone.p50_ms,
        f"A7: honest p50 went from {alone.p50_ms:.1f} to {attack.p50_ms:.1f} ms",
    )


def _noise(report: Report) -> None:
    with serving("--log-format", "json") as server:
        answered = attacks.noisy_metadata(server.address, 500)
        log = server.log
    report.note("A8: calls with metadata that is no ASCII, answered", answered, "500")
    report.note("A8: log, bytes", len(log), f"{LOG_BYTES:,}")
    report.require(answered == 500, f"A8: {answered} of 500 calls were answered")
    _note_log(report, log)
    watched = ("--log-format", "json", "--metrics-listen", "127.0.0.1:0")
    with with_tls() as tls, serving(*tls, *watched) as server:
        attacks.no_handshakes(server.address, 100)
        counted = logs.handshake_failures(server.metrics_url, 100)
        log = server.log
    report.note("A8: handshake failures counted, of 100", counted, "100")
    report.note("A8: log of these, bytes", len(log), f"{LOG_BYTES:,}")
    report.require(counted >= 100, f"A8: {counted} of 100 failed handshakes were counted")
    _note_log(report, log)


def _note_log(report: Report, log: str) -> None:
    raw = logs.lines_without_json(log)
    report.note("A8: lines that are no JSON", len(raw), "0")
    report.require(not raw, f"A8: {len(raw)} lines are no JSON, as {raw[:1]}")
    report.require(len(log) < LOG_BYTES, f"A8: the log has {len(log):,} bytes")
