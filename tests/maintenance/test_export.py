"""The audit trail: complete, filtered, in order, and whole again after it was broken off."""

import asyncio
import csv
import io
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue
from entitlements_server.ledger.commands import Command, Consume, TopUp
from entitlements_server.ledger.decide import bind
from entitlements_server.ledger.values import Kind, Status, Transaction
from entitlements_server.maintenance.export import Export, ExportError
from entitlements_server.maintenance.rows import COLUMNS, Filters
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.memory import MemoryStore
from support.ledger import rule_at
from support.programs import command

USERS = 2500


class BreakingStore(MemoryStore):
    """Fails when it has read so many histories."""

    left: int | None = None

    async def history_after(self, user_id: str, after: int, limit: int) -> Sequence[Transaction]:
        if self.left is not None:
            if not self.left:
                raise RuntimeError("Broken off.")
            self.left -= 1
        return await super().history_after(user_id, after, limit)


async def filled() -> BreakingStore:
    store = BreakingStore()

    async def commit(time_us: int, *commands: Command) -> None:
        await store.commit(commands, rule_at(time_us))

    users = [f"user-{number:04}" for number in range(USERS)]
    await commit(1_000_000, *(TopUp(user_id=user, amount=3, reason='"a", b') for user in users))
    for time_us in (2_000_000, 3_000_000):
        await commit(
            time_us, *(Consume(user_id=user, feature="full_distribution") for user in users)
        )
    return store


@pytest.fixture(scope="module")
def ledger() -> BreakingStore:
    """Made once: nothing here writes to it."""
    return asyncio.run(filled())


@pytest.fixture
def store(ledger: BreakingStore) -> BreakingStore:
    ledger.left = None
    return ledger


def export(store: MemoryStore, file: Path, **fields: Any) -> Export:
    return Export(store, "memory://", file, fields.pop("form", "jsonl"), **fields)


async def test_it_holds_every_transaction_of_every_user_oldest_first(
    store: BreakingStore, tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    assert await export(store, file).run() == 3 * USERS
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [(row["user_id"], row["sequence"]) for row in rows] == [
        (f"user-{number:04}", sequence) for number in range(USERS) for sequence in (1, 2, 3)
    ]
    known = store._state.charges["user-0000", 2].transaction
    assert rows[1] == {
        "user_id": "user-0000",
        "sequence": 2,
        "transaction_id": known.transaction_id,
        "kind": "CONSUME",
        "status": "SUCCESS",
        "feature": "full_distribution",
        "cost": 2,
        "amount": -2,
        "balance_before": 3,
        "balance_after": 1,
        "create_time": "1970-01-01T00:00:02.000000Z",
        "event_id": "",
        "idempotency_key": "",
        "reason": "",
        "refunded_transaction_id": "",
        "caller": "",
        "catalogue_version": BUILT_IN.version,
        "decision_time": "",
        "quantity": 1,
        "draws": [],
        "expire_time": "",
        "lifetime": "",
        "access_until": "",
        "available": None,
        "labels": {},
        "salt": "",
    }
    assert json.loads(file.read_text("utf-8").splitlines()[0])["salt"]
    assert os.listdir(tmp_path) == [file.name]  # noqa: PTH208  # no blocking Path in a coroutine


async def test_an_export_is_readable_by_its_owner_only(
    store: BreakingStore, tmp_path: Path
) -> None:
    file = tmp_path / "trail.jsonl"
    before = os.umask(0o022)
    try:
        store.left = USERS // 2
        with pytest.raises(RuntimeError):
            await export(store, file).run()
        kept = file.with_name("trail.jsonl.progress")
        assert [one.stat().st_mode & 0o777 for one in (file, kept)] == [0o600, 0o600]
    finally:
        os.umask(before)


async def test_csv_holds_the_same_under_a_header(store: BreakingStore, tmp_path: Path) -> None:
    files = {form: tmp_path / f"trail.{form}" for form in ("jsonl", "csv")}
    for form, file in files.items():
        await export(store, file, form=form, exact=True).run()
    with files["csv"].open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    wanted = [json.loads(line) for line in files["jsonl"].read_text("utf-8").splitlines()]
    assert list(rows[0]) == list(COLUMNS)
    assert rows == [{name: cell(value) for name, value in row.items()} for row in wanted]


def cell(value: Any) -> str:
    """What CSV has of a JSON value."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
    return "" if value is None else str(value)


async def test_it_has_expiry_draws_quantity_labels_and_windows(tmp_path: Path) -> None:
    """In JSON as the contract has them; in CSV the same JSON in cells."""
    store = MemoryStore()
    day_us = 86_400_000_000
    feature = replace(BUILT_IN.feature("full_distribution"), access_us=2 * day_us)
    catalogue = Catalogue((feature, BUILT_IN.feature("scenario_extremes")))

    async def commit(time_us: int, command: Command) -> None:
        await store.commit([command], bind(catalogue, time_us))

    labels = (("plan", "=pro"),)
    await commit(1, TopUp(user_id="ada", amount=4, lifetime_us=day_us + 1, labels=labels))
    await commit(2, TopUp(user_id="ada", amount=9, expire_time_us=3 * day_us))
    await commit(3, Consume(user_id="ada", feature="full_distribution", event_id="final"))
    await commit(4, Consume(user_id="ada", feature="scenario_extremes", quantity=2))
    await commit(2 * day_us, Consume(user_id="ada", feature="scenario_extremes", quantity=3))
    files = {form: tmp_path / f"trail.{form}" for form in ("jsonl", "csv")}
    for form, file in files.items():
        await export(store, file, form=form).run()
    rows = [json.loads(line) for line in files["jsonl"].read_text("utf-8").splitlines()]
    first, second, window, several, denied = rows
    lasting, dated = first["transaction_id"], second["transaction_id"]
    assert (first["lifetime"], first["expire_time"]) == ("86400.000001s", "")
    assert (second["lifetime"], second["expire_time"]) == ("", "1970-01-04T00:00:00.000000Z")
    assert first["labels"] == {"plan": "=pro"}
    assert window["access_until"] == "1970-01-03T00:00:00.000003Z"
    assert (window["quantity"], several["quantity"], first["quantity"]) == (1, 2, 0)
    assert several["draws"] == [
        {"grant": lasting, "amount": 2, "expire_time": "1970-01-02T00:00:00.000002Z"},
        {"grant": dated, "amount": 4, "expire_time": "1970-01-04T00:00:00.000000Z"},
    ]
    assert (denied["status"], denied["available"], denied["quantity"]) == ("DENIED", 5, 3)
    with files["csv"].open(newline="", encoding="utf-8") as opened:
        cells = list(csv.DictReader(opened))
    assert cells == [{name: cell(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (Filters(user_id="user-0007"), 3),
        (Filters(user_id="nobody"), 0),
        (Filters(feature="full_distribution"), 2 * USERS),
        (Filters(kind=Kind.TOP_UP), USERS),
        (Filters(status=Status.DENIED), USERS),
        (Filters(since_us=2_000_000), 2 * USERS),
        (Filters(until_us=2_000_000), USERS),
        (Filters(since_us=2_000_000, until_us=3_000_000, status=Status.DENIED), 0),
    ],
)
async def test_filters_choose(
    store: BreakingStore, tmp_path: Path, filters: Filters, count: int
) -> None:
    file = tmp_path / "trail.jsonl"
    assert await export(store, file, filters=filters).run() == count
    assert len(file.read_text("utf-8").splitlines()) == count


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("broken_off_after", [10, 1500, 2100])
async def test_an_export_that_was_broken_off_goes_on_and_becomes_the_same(
    store: BreakingStore, tmp_path: Path, form: str, broken_off_after: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    await export(store, whole, form=form).run()
    store.left = broken_off_after
    with pytest.raises(RuntimeError, match=r"Broken off\."):
        await export(store, parts, form=form).run()
    with pytest.raises(ExportError, match="--resume"):
        await export(store, parts, form=form).run()
    with pytest.raises(ExportError, match="is another export"):
        await export(store, parts, form=form, filters=Filters(user_id="ada")).run(resume=True)
    with parts.open("ab") as file:
        file.write(b"half a line" * 100_000)
    store.left = USERS
    assert await export(store, parts, form=form).run(resume=True) == 3 * USERS
    assert parts.read_bytes() == whole.read_bytes()
    # What was sound was not read again: a page is 1,000 users.
    assert store.left == broken_off_after // 1000 * 1000
    with pytest.raises(ExportError, match="nothing to resume"):
        await export(store, parts, form=form).run(resume=True)


async def test_csv_holds_no_formula_unless_exactly_what_is_stored_is_asked_for(
    tmp_path: Path,
) -> None:
    """Callers write reasons and ids, and a spreadsheet would run them. Numbers stay numbers."""
    store = MemoryStore()
    texts = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "fine = fine"]
    commands: list[Command] = [TopUp(user_id="=me", amount=2, reason=text) for text in texts]
    await store.commit([*commands, Consume(user_id="=me", feature="full_distribution")], rule_at())
    found = {}
    for name, exact in (("safe", False), ("exact", True)):
        file = tmp_path / f"{name}.csv"
        await export(store, file, form="csv", exact=exact).run()
        with file.open(newline="") as rows:
            found[name] = list(csv.DictReader(rows))
    assert [row["reason"] for row in found["exact"]] == [*texts, ""]
    assert [row["reason"] for row in found["safe"]] == [
        *(f"'{text}" for text in texts[:4]),
        "fine = fine",
        "",
    ]
    assert {row["user_id"] for row in found["safe"]} == {"'=me"}
    assert found["safe"][-1]["amount"] == "-2"


async def test_an_export_to_a_stream_is_the_same_as_to_a_file(
    store: BreakingStore, tmp_path: Path
) -> None:
    for form in ("jsonl", "csv"):
        file = tmp_path / f"trail.{form}"
        stream = io.BytesIO()
        rows = await export(store, tmp_path / "-", form=form).write_to(stream)
        assert rows == await export(store, file, form=form).run()
        assert stream.getvalue() == file.read_bytes()
    assert not (tmp_path / "-").exists()


@pytest.mark.slow
def test_a_dash_is_standard_output_and_no_file(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    asyncio.run(_fill(url))

    def run_here(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command("entitlements-server"), *words, "--store", url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run_here("export", "-")
    assert (done.returncode, done.stderr) == (0, "- holds 1 transactions.\n")
    assert json.loads(done.stdout)["user_id"] == "ada"
    assert "cannot be resumed" in run_here("export", "-", "--resume").stderr
    assert "cannot go to standard output" in run_here("backup", "-").stderr
    assert not (tmp_path / "-").exists()


async def _fill(url: str) -> None:
    store = await open_store(url)
    await store.commit([TopUp(user_id="ada", amount=2)], rule_at())
    await store.close()
