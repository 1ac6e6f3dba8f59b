"""Metrics: what is counted, under which names, and whether dashboard and alerts ask for those."""

import asyncio
import json
import platform
import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from http.client import HTTPConnection
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from entitlements import __version__
from entitlements_server import app
from entitlements_server.app import RunningServer, running
from entitlements_server.config.settings import Settings
from entitlements_server.instrumentation.metrics import MetricsListenError
from entitlements_server.stores.interface import StoreUnavailableError
from entitlements_server.workers.exposition import MergedMetrics
from support.repository import DOCS
from support.rpc import Api, fails, raw
from support.stores import FailingStore, GatedStore, used_by_servers

OPERATIONS = DOCS / "operations"
ADDED_BY_PROMETHEUS = {"instance", "job", "up"}


async def samples(server: RunningServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    def read() -> str:
        with urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    text = await asyncio.to_thread(read)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    """A server that has seen everything that it counts."""
    settings = Settings(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    async with (
        running(settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        api = Api(channel)
        await api.TopUp(user_id="ada", amount=10)
        charge = await api.Consume(
            user_id="ada", feature="full_distribution", idempotency_key="k-1"
        )
        await api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
        await api.Consume(user_id="ada", feature="headline_pick")
        await fails(api.Consume(user_id="bob", feature="deep_dive_educational"))
        await fails(api.Consume(user_id="bob", feature="crystal_ball"))
        charged = charge.transaction.transaction_id
        await api.Refund(user_id="ada", transaction_id=charged, amount=1)
        await api.SetBalance(user_id="ada", balance=3)
        await raw(channel, "/made.up/Method")(b"").code()
        yield server


async def test_it_counts_what_happens_to_the_ledger(server: RunningServer) -> None:
    found = {name: value for (name, labels), value in (await samples(server)).items() if not labels}
    assert found["entitlements_replays_total"] == 1
    assert found["entitlements_refunds_total"] == 1
    assert found["entitlements_tokens_refunded_total"] == 1
    assert found["entitlements_top_ups_total"] == 1
    assert found["entitlements_tokens_topped_up_total"] == 10
    assert found["entitlements_adjustments_total"] == 1
    assert found["entitlements_group_size_sum"] == 8
    assert found["entitlements_commit_duration_seconds_count"] == 8
    assert found["entitlements_queue_depth"] == 0
    assert found["entitlements_calls_in_flight"] == 0
    assert found["entitlements_store_up"] == 1


async def test_it_says_which_build_it_is(server: RunningServer) -> None:
    """So that a change of behaviour can be laid beside a change of version."""
    builds = [labels for name, labels in await samples(server) if name.endswith("build_info")]
    assert [dict(labels) for labels in builds if "grpcio" in dict(labels)] == [
        {
            "version": __version__,
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
        }
    ]


async def test_labels_hold_features_of_the_catalogue_and_methods_of_the_server_only(
    server: RunningServer,
) -> None:
    """Whatever callers ask for, it makes no new series."""
    found = await samples(server)
    by_feature = {
        (name, dict(labels)["feature"]): value
        for (name, labels), value in found.items()
        if "feature" in dict(labels)
    }
    assert by_feature == {
        ("entitlements_charges_total", "full_distribution"): 1,
        ("entitlements_charges_total", "headline_pick"): 1,
        ("entitlements_tokens_consumed_total", "full_distribution"): 2,
        ("entitlements_tokens_consumed_total", "headline_pick"): 0,
        ("entitlements_denials_total", "deep_dive_educational"): 1,
    }
    methods = {dict(labels).get("rpc_method") for _, labels in found}
    assert "_OTHER" in methods
    assert not [method for method in methods if method and "made.up" in method]


async def test_calls_are_measured_under_the_names_of_the_rpc_conventions(
    server: RunningServer,
) -> None:
    found = await samples(server)

    def calls(method: str, code: str, error_type: str = "") -> float | None:
        labels = {
            "rpc_system_name": "grpc",
            "rpc_method": method,
            "rpc_response_status_code": code,
            "error_type": error_type,
        }
        return found.get(("rpc_server_call_duration_seconds_count", frozenset(labels.items())))

    consume = "entitlements.v1.EntitlementService/Consume"
    assert calls(consume, "OK") == 3
    assert calls(consume, "FAILED_PRECONDITION") == 1
    assert calls(consume, "NOT_FOUND") == 1
    assert calls("_OTHER", "UNIMPLEMENTED", "UNIMPLEMENTED") == 1


async def test_calls_shed_while_the_server_stops_are_no_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that has begun keeps the server from closing; others are sent elsewhere."""
    store = GatedStore()

    async def open_store(_: str) -> GatedStore:
        return store

    monkeypatch.setattr(app, "open_store", open_store)
    settings = Settings(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    serving = running(settings)
    server = await serving.__aenter__()
    assert server.metrics is not None

    def shed(cause: str) -> float | None:
        assert server.metrics is not None
        return server.metrics.registry.get_sample_value(
            "entitlements_shed_calls_total", {"cause": cause}
        )

    async with grpc.aio.insecure_channel(server.address) as channel:
        begun = asyncio.ensure_future(Api(channel).TopUp(user_id="ada", amount=1))
        await store.begun.wait()
        stopping = asyncio.create_task(serving.__aexit__(None, None, None))
        while not shed("draining"):
            with suppress(grpc.aio.AioRpcError):
                await Api(channel).ListFeatures()
        refused = await fails(Api(channel).Consume(user_id="ada", feature="headline_pick"))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
        assert "shutting down" in refused.message
        store.gate.set()
        await begun
        await stopping
    assert shed("queue") == 0


def queries() -> dict[str, str]:
    """Every query of the dashboard and of the alerts, by where it stands."""
    dashboard = json.loads((OPERATIONS / "dashboard.json").read_text("utf-8"))
    found = {
        f"panel {panel['title']}, {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["query"]["query"]
    alerts = (OPERATIONS / "alerts.yaml").read_text("utf-8")
    for name, query in re.findall(r"- alert: (\w+)\n +expr: >-\n +(.+)\n", alerts):
        found[f"alert {name}"] = query
    return found


NOT_SEEN_HERE = {"UNAUTHENTICATED"}
WORDS = {
    *(
        "sum",
        "min",
        "max",
        "by",
        "rate",
        "increase",
        "histogram_quantile",
        "time",
        "absent",
        "and",
        "or",
    ),
    "label_values",
}


async def test_each_query_asks_for_what_the_server_exposes(server: RunningServer) -> None:
    exposed: dict[str, set[str]] = {}
    values: dict[tuple[str, str], set[str]] = {}
    with_workers = [one.samples for one in MergedMetrics([], lambda: 0).collect()]
    more = [(one.name, one.labels.items()) for some in with_workers for one in some]
    for name, labels in (*await samples(server), *more):
        exposed.setdefault(name, set()).update(key for key, _ in labels)
        for key, value in labels:
            values.setdefault((name, key), set()).add(value)
    for place, query in queries().items():
        assert query.count("(") == query.count(")"), place
        assert query.count("{") == query.count("}"), place
        bare = re.sub(r'"[^"]*"|\[[^\]]*\]', '""', query)
        labels_asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", bare))
        for group in re.findall(r"\bby \(([^)]*)\)", bare):
            labels_asked |= {label.strip() for label in group.split(",")}
        names = set(re.findall(r"\b[a-z_]\w*\b", bare)) - labels_asked - WORDS
        names -= ADDED_BY_PROMETHEUS
        assert names, place
        assert names <= set(exposed), f"{place} asks for what is not there"
        known = set().union(*(exposed[name] for name in names)) | ADDED_BY_PROMETHEUS
        assert labels_asked <= known, f"{place} asks for a label that is not there"
        if "le" in labels_asked:
            assert all(name.endswith("_bucket") for name in names), place
        for label, value in re.findall(r'(\w+)="([^"]+)"', query):
            if label not in ADDED_BY_PROMETHEUS and not value.startswith("$"):
                seen = set().union(*(values.get((name, label), set()) for name in names))
                assert value in seen | NOT_SEEN_HERE, f"{place} asks for {label} {value}"


def test_dashboard_and_alerts_leave_no_metric_of_ours_unseen() -> None:
    """The test above would pass for an empty dashboard."""
    asked = " ".join(queries().values())
    assert len(queries()) > 30
    for name in (
        *("charges", "denials", "replays", "refunds", "top_ups", "adjustments", "shed_calls"),
        *("tokens_consumed", "tokens_refunded", "tokens_topped_up", "group_size", "store_up"),
        *("commit_duration_seconds", "queue_depth", "calls_in_flight", "reloads"),
        "certificate_expiry_timestamp_seconds",
        "handshake_failures",
        *("covered", "tokens_expired", "sweep_lag_seconds"),
    ):
        assert f"entitlements_{name}" in asked


async def test_a_taken_metrics_address_is_refused_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings(listen="127.0.0.1:0", metrics_listen=address)
        with pytest.raises(MetricsListenError, match="--metrics-listen"):
            async with running(settings):
                pass


def fetch(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def test_beside_metrics_there_are_two_probes_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`/readyz` says what health says; a path that does not exist is not an answer to a probe."""
    failing = used_by_servers(FailingStore(), monkeypatch)
    settings = Settings(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0")
    async with running(settings) as server:

        async def get(path: str, method: str = "GET") -> tuple[int, str]:
            return await asyncio.to_thread(fetch, server.metrics_address, path, method)

        assert await get("/livez") == (200, "ok\n")
        assert await get("/readyz?verbose") == (200, "SERVING\n")
        assert await get("/readyz", "HEAD") == (200, "")
        status, metrics = await get("/metrics")
        assert (status, "entitlements_store_up" in metrics) == (200, True)
        for path in ("/healthz", "/", "/metrics/x", "/metricsx"):
            assert (await get(path))[0] == 404
        failing.error = StoreUnavailableError("The disk is gone.")
        async with asyncio.timeout(30):
            # Each look is a request of its own, so this does not spin.
            while (await get("/readyz"))[0] == 200:
                pass
        assert await get("/readyz") == (503, "NOT_SERVING\n")
        assert await get("/livez") == (200, "ok\n")
