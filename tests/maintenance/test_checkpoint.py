"""Checkpoints: what they say, what is refused, and how they are signed."""

import json
import re
import subprocess
from contextlib import AbstractContextManager, closing
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import pytest

from entitlements_server.ledger.commands import TopUp
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.values import Account, Draw, Kind, Status, Transaction
from entitlements_server.maintenance import checkpoint as checkpoint_module
from entitlements_server.maintenance import heads as heads_module
from entitlements_server.maintenance.checkpoint import (
    Checkpoint,
    CheckpointError,
    Taken,
    heads_file,
    take,
)
from entitlements_server.maintenance.copy import copy
from entitlements_server.maintenance.export import Export
from entitlements_server.maintenance.heads import Entry, Heads, HeadsWriter, user_digest
from entitlements_server.maintenance.merkle import MerkleTree
from entitlements_server.maintenance.report import report
from entitlements_server.maintenance.rows import COLUMNS
from entitlements_server.maintenance.verify import verify
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import LedgerIdentity, Store
from entitlements_server.stores.memory import MemoryStore
from support.forgeries import fill
from support.ledger import NOW_US, all_accounts, consume, record, top_up
from support.programs import tool
from support.repository import DOCS
from support.server_process import ServerProcess, run


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await fill(store)
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


async def taken(store: Store, file: Path, previous: Path | None = None) -> Taken:
    if previous is None:
        return await take(store, file)
    with Checkpoint.open(previous) as earlier:
        return await take(store, file, previous=earlier)


async def against(store: Store, file: Path) -> list[str]:
    """What no longer holds of a checkpoint."""
    with Checkpoint.open(file) as earlier:
        comparison = earlier.comparison(await store.identity())
        return [str(one) for one in (await report(store, witness=comparison)).findings]


async def test_a_checkpoint_says_what_the_ledger_contains(store: MemoryStore, file: Path) -> None:
    header = (await taken(store, file)).header
    assert header is not None
    accounts = await all_accounts(store)
    assert header.identity == await store.identity()
    assert header.accounts == len(accounts) == 3
    assert header.transactions == sum(one.transaction_count for one in accounts)
    assert header.tokens == sum(one.balance for one in accounts)
    assert heads_file(file).stat().st_size == 72 * 3
    with Checkpoint.open(file) as found:
        assert found.header == header
        assert list(found.heads) == sorted(
            (user_digest(header.ledger_id, one.user_id), one.transaction_count, one.head)
            for one in accounts
        )


async def test_a_checkpoint_of_an_empty_ledger_holds(file: Path) -> None:
    store = MemoryStore()
    await taken(store, file)
    assert await against(store, file) == []


async def test_both_files_are_for_the_owner_only(store: MemoryStore, file: Path) -> None:
    await taken(store, file)
    assert {one.stat().st_mode & 0o777 for one in (file, heads_file(file))} == {0o600}


async def test_a_checkpoint_names_the_digest_of_the_one_before(
    store: MemoryStore, file: Path, tmp_path: Path
) -> None:
    first = await taken(store, file)
    assert first.header is not None
    assert first.header.previous == ""
    second = await taken(store, tmp_path / "second", previous=file)
    assert second.header is not None
    assert second.header.previous == first.digest == sha256(file.read_bytes()).hexdigest()


async def test_what_the_one_before_says_must_still_hold(
    store: MemoryStore, file: Path, tmp_path: Path
) -> None:
    await record(store, top_up("dan", 1))
    await taken(store, file)
    older = MemoryStore()
    await fill(older)
    await older.adopt(await store.identity())
    second = await taken(older, tmp_path / "second", previous=file)
    assert second.header is None
    assert any("is gone" in str(one) for one in second.report.findings)
    assert not (tmp_path / "second").exists()


async def test_nothing_is_written_of_a_ledger_that_does_not_hold(
    store: MemoryStore, file: Path, tmp_path: Path
) -> None:
    store._state.accounts["ada"] = Account("ada", 5, 11, salt="another")
    assert (await taken(store, file)).header is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", ["header", "heads"])
async def test_a_file_that_is_there_is_never_replaced(
    store: MemoryStore, file: Path, which: str
) -> None:
    there = file if which == "header" else heads_file(file)
    there.write_text("mine")
    with pytest.raises(CheckpointError, match="already exists"):
        await taken(store, file)
    assert there.read_text() == "mine"


async def test_a_failed_write_leaves_nothing(
    store: MemoryStore, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        await taken(store, file)
    assert list(tmp_path.iterdir()) == []


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-72])


@pytest.mark.parametrize("change", [flip, shorten, Path.unlink])
async def test_a_side_file_that_is_not_the_one_signed_is_refused(
    store: MemoryStore, file: Path, change: Any
) -> None:
    await taken(store, file)
    change(heads_file(file))
    with pytest.raises(CheckpointError, match=r"checkpoint\.heads"), Checkpoint.open(file):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"form": "something else"}'])
def test_what_is_no_header_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(CheckpointError, match="not the header"), Checkpoint.open(file):
        pass


async def test_a_header_of_another_form_is_refused(store: MemoryStore, file: Path) -> None:
    await taken(store, file)
    file.write_text(file.read_text().replace("checkpoint/1", "checkpoint/2"))
    with pytest.raises(CheckpointError, match="checkpoint/2"), Checkpoint.open(file):
        pass


async def test_a_ledger_that_went_on_still_holds(store: MemoryStore, file: Path) -> None:
    await taken(store, file)
    await record(store, top_up("ada", 1), top_up("eve", 1))
    assert await against(store, file) == []


@pytest.mark.parametrize("remembered", [1, 3])
async def test_a_long_history_that_is_read_in_parts_is_compared_once(
    store: MemoryStore, file: Path, remembered: int
) -> None:
    await taken(store, file)
    with Checkpoint.open(file) as earlier:
        comparison = earlier.comparison(await store.identity())
        found = [one async for one in verify(store, remembered=remembered, witness=comparison)]
    assert found == []


async def test_a_restored_ledger_misses_what_came_after_its_backup(
    store: MemoryStore, file: Path
) -> None:
    """Also if it went on: the histories part."""
    await record(store, top_up("ada", 1, "k-9"))
    await taken(store, file)
    backup = MemoryStore()
    await fill(backup)
    await backup.adopt((await store.identity()).successor)
    assert any(
        "'ada': it has 11 transactions and had 12" in one for one in await against(backup, file)
    )
    await record(backup, top_up("ada", 2), top_up("ada", 1))
    assert any("'ada': its first 12 transactions" in one for one in await against(backup, file))


async def test_an_older_generation_and_another_ledger_are_found(
    store: MemoryStore, file: Path
) -> None:
    identity = await store.identity()
    await store.adopt(identity.successor)
    await taken(store, file)
    await store.adopt(identity)
    assert any("generation is 1 and was 2" in one for one in await against(store, file))
    await store.adopt(LedgerIdentity("f" * 32, 2))
    assert any(
        f"checkpoint is of ledger {identity.id}" in one for one in await against(store, file)
    )


async def test_a_checkpoint_of_the_source_holds_for_a_copy(
    store: MemoryStore, file: Path, tmp_path: Path
) -> None:
    await taken(store, file)
    target = await open_store(f"sqlite://{tmp_path}/copy.sqlite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "adopt", None)  # the source is only read
        await copy(store, target, resume=False)
    assert await target.identity() == (await store.identity()).successor
    assert await against(target, file) == []
    await target.close()


async def test_the_heads_follow_from_an_export(
    store: MemoryStore, file: Path, tmp_path: Path
) -> None:
    """An auditor who has an export and a checkpoint needs nothing else."""
    labels = (("plan", "pro"), ("team", 'a "b"'))
    day_us = 86_400_000_000
    await record(store, TopUp(user_id="eve", amount=5, lifetime_us=day_us, labels=labels))
    await record(store, TopUp(user_id="eve", amount=5, expire_time_us=NOW_US + 9 * day_us))
    await record(store, consume("eve"))
    denied, *_ = await record(store, consume("eve", quantity=5), now_us=NOW_US + day_us)
    assert denied.unavailable == 3
    await record(store, consume("eve", quantity=2), now_us=NOW_US + 2 * day_us)
    await taken(store, file)
    trail = tmp_path / "trail.jsonl"
    await Export(store, "memory://", trail, "jsonl").run()
    accounts: dict[str, Account] = {}
    for line in trail.read_text("utf-8").splitlines():
        one = transaction_of(json.loads(line))
        before = accounts.get(one.user_id, Account(one.user_id))
        accounts[one.user_id] = account_after(before, one, encode_transaction(one))
    with Checkpoint.open(file) as found:
        ledger_id = found.header.ledger_id
        assert list(found.heads) == sorted(
            (user_digest(ledger_id, user), one.transaction_count, one.head)
            for user, one in accounts.items()
        )


def transaction_of(row: dict[str, Any]) -> Transaction:
    """Read a row of an export."""
    fields = {name: row[name] for name in COLUMNS if name in Transaction.__struct_fields__}
    for name in ("create_time", "decision_time", "expire_time", "access_until"):
        fields[f"{name}_us"] = microseconds(row[name])
    seconds, _, fraction = row["lifetime"].rstrip("s").partition(".")
    fields["lifetime_us"] = int(seconds or 0) * 1_000_000 + int(fraction or 0)
    fields["draws"] = tuple(
        Draw(one["grant"], one["amount"], microseconds(one["expire_time"])) for one in row["draws"]
    )
    fields["labels"] = tuple(row["labels"].items())
    if row["quantity"] == 1:
        fields["quantity"] = 0
    if row["available"] is not None:
        fields["unavailable"] = row["balance_before"] - row["available"]
    fields |= {"kind": Kind[row["kind"]], "status": Status[row["status"]]}
    return Transaction(**fields)


def microseconds(time: str) -> int:
    if not time:
        return 0
    seconds, _, rest = time.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 1_000_000 + int(rest)


@pytest.mark.parametrize("size", [*range(10), 63, 64, 65])
def test_the_root_is_that_of_rfc_6962(size: int) -> None:
    entries = [bytes([number]) * 72 for number in range(size)]

    def root(some: list[bytes]) -> bytes:
        if len(some) < 2:
            return sha256(b"\0" + some[0] if some else b"").digest()
        half = 1
        while 2 * half < len(some):
            half *= 2
        return sha256(b"\1" + root(some[:half]) + root(some[half:])).digest()

    tree = MerkleTree()
    for entry in entries:
        tree.add(entry)
    assert tree.root == root(entries)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_entries_are_sorted_however_few_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(heads_module, "MAX_SORTED", at_once)
    entries = [Entry(user_digest("", str(number)), number, bytes(32)) for number in range(100)]
    with closing(HeadsWriter(tmp_path)) as writer:
        for entry in entries:
            writer.add(entry)
        file = BytesIO()
        root = writer.write(file)
    (tmp_path / "heads").write_bytes(file.getvalue())
    with Heads(tmp_path / "heads") as heads:
        assert list(heads) == sorted(entries)
        assert heads.root() == root
        for entry in entries:
            index = heads.find(entry.user)
            assert index is not None
            assert heads[index] == entry
        assert heads.find(user_digest("", "nobody")) is None


@pytest.mark.slow
async def test_the_commands_write_and_compare_a_checkpoint_beside_a_server(tmp_path: Path) -> None:
    file, url = tmp_path / "ledger.sqlite", f"sqlite://{tmp_path}/ledger.sqlite"
    store = await open_store(url)
    await fill(store)
    await store.close()
    with ServerProcess("--store", url):
        made = run("checkpoint", "--store", url, f"{tmp_path}/c-1")
        assert made.returncode == 0, made.stderr
        assert "33 transactions of 3 users" in made.stdout
        again = run(
            *("checkpoint", "--store", url, "--previous", f"{tmp_path}/c-1"),
            *("--json", f"{tmp_path}/c-2"),
        )
        assert json.loads(again.stdout)["checkpoint"]["previous"] in made.stdout
    held = run("verify", "--store", url, "--against", f"{tmp_path}/c-2")
    assert held.returncode == 0, held.stderr
    assert json.loads(again.stdout)["sha256"] in held.stdout
    with closing(apsw.Connection(str(file))) as connection:
        connection.execute("DELETE FROM accounts WHERE user_id = 'ada'")
    found = run("verify", "--store", url, "--against", f"{tmp_path}/c-1", "--json")
    assert found.returncode == 3
    assert not json.loads(found.stdout)["holds"]
    assert any("is gone" in one["what"] for one in json.loads(found.stdout)["findings"])
    refused = run("checkpoint", "--store", url, f"{tmp_path}/c-3")
    assert refused.returncode == 3
    assert not (tmp_path / "c-3").exists()


def test_the_signature_of_the_docs_holds_and_that_of_an_edited_header_does_not(
    tmp_path: Path,
) -> None:
    """The commands of docs/proof.md, as they stand there."""
    tool("ssh-keygen")
    block = re.search(
        r"```sh\n(ssh-keygen -t .*?)```", (DOCS / "proof.md").read_text("utf-8"), re.DOTALL
    )
    assert block
    make_key, sign, allow, check = (
        line for line in block[1].replace("\\\n", "").splitlines() if not line.startswith("#")
    )
    header = tmp_path / "2027-01-31.checkpoint"
    header.write_text('{"form": "entitlements-checkpoint/1"}')
    for line in (make_key, sign, allow, check):
        done = shell(line, tmp_path)
        assert done.returncode == 0, (line, done.stderr)
    assert "Good" in done.stdout
    header.write_text('{"form": "entitlements-checkpoint/1", "tokens": 1}')
    assert shell(check, tmp_path).returncode != 0


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


async def test_a_checkpoint_that_cannot_be_written_leaves_neither_file(
    store: MemoryStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the side file without its header would keep the next try from its name."""
    real = checkpoint_module._new_file

    def new_file(path: Path) -> AbstractContextManager[BinaryIO]:
        if path == file:
            raise OSError(28, "No space left on device")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_new_file", new_file)
        with pytest.raises(CheckpointError, match="No space left"):
            await taken(store, file)
    assert list(file.parent.iterdir()) == []
    assert (await taken(store, file)).header is not None


@pytest.mark.parametrize("name", ["no/folder", "x" * 253])
async def test_a_place_that_cannot_be_written_is_refused_before_the_ledger_is_read(
    file: Path, name: str
) -> None:
    with pytest.raises(CheckpointError):
        await take(Unread(), file.parent / name)


class Unread(MemoryStore):
    """A ledger that nobody may read."""

    async def identity(self) -> LedgerIdentity:
        raise AssertionError


async def test_a_header_whose_totals_were_changed_is_refused(
    store: MemoryStore, file: Path
) -> None:
    """Its number of transactions is what people read."""
    await taken(store, file)
    header = json.loads(file.read_text())
    file.write_text(json.dumps(header | {"transactions": header["transactions"] + 1}))
    with pytest.raises(CheckpointError, match="was changed"), Checkpoint.open(file):
        pass


@pytest.mark.slow
def test_a_checkpoint_does_not_go_to_standard_output(tmp_path: Path) -> None:
    refused = run("checkpoint", "-", "--store", f"sqlite://{tmp_path}/ledger.sqlite")
    assert refused.returncode == 1
    assert "name a file, not standard output" in refused.stderr
