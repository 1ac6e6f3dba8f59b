"""Traces: a span for each call, below the caller's, and one for each group; nothing when off."""

import subprocess
import sys

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements_server import app as wiring
from entitlements_server.app import running
from entitlements_server.config.settings import Settings
from entitlements_server.instrumentation.tracing import Tracing
from support.rpc import Api, fails

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


async def spans_of(monkeypatch: pytest.MonkeyPatch) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(wiring, "tracing_of", lambda _: Tracing(exporter, "1.2.3"))
    settings = Settings(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await Api(channel).stub.TopUp(
            pb.TopUpRequest(user_id="ada-planted", amount=1, reason="reason-planted"),
            metadata=(
                ("traceparent", f"00-{TRACE}-{PARENT}-01"),
                ("authorization", "Bearer ent_planted"),
                ("x-request-id", "planted"),
            ),
        )
        await fails(Api(channel).Consume(user_id="bob-planted", feature="crystal-planted"))
    return list(exporter.get_finished_spans())


async def test_a_call_is_a_span_below_the_callers_and_its_group_links_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = await spans_of(monkeypatch)
    (top_up,) = [span for span in spans if span.name.endswith("/TopUp")]
    (consume,) = [span for span in spans if span.name.endswith("/Consume")]
    first, second = [span for span in spans if span.name == "commit group"]
    assert top_up.parent is not None
    assert f"{top_up.context.trace_id:032x}" == TRACE
    assert f"{top_up.parent.span_id:016x}" == PARENT
    assert top_up.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "entitlements.v1.EntitlementService/TopUp",
        "rpc.response.status_code": "OK",
    }
    # Another call, which brought no context, begins a trace of its own.
    assert consume.parent is None
    assert consume.attributes
    assert consume.attributes["rpc.response.status_code"] == "NOT_FOUND"
    for group, call in ((first, top_up), (second, consume)):
        assert group.attributes == {"entitlements.group_size": 1}
        assert [link.context.span_id for link in group.links] == [call.context.span_id]


async def test_spans_hold_no_metadata_and_nothing_of_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spans = await spans_of(monkeypatch)
    assert spans
    assert "planted" not in "".join(span.to_json() for span in spans)


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    program = (
        "import asyncio, sys\n"
        "from entitlements_server.app import running\n"
        "from entitlements_server.config.settings import Settings\n"
        "async def main():\n"
        "    async with running(Settings(listen='127.0.0.1:0')):\n"
        "        print([name for name in sys.modules if 'opentelemetry' in name])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "[]" in done.stdout.splitlines()
