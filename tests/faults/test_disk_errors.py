"""Every I/O call fails in turn: one pass."""

from pathlib import Path

import apsw
import grpc
import pytest

from entitlements_server import app
from entitlements_server.stores.sqlite import SqliteStore
from faults.disk import Disk, DiskLayer
from faults.disk_errors import check, lose_power_after_failed_syncs
from support.rpc import fails, serving

FIRST_COMMIT = range(33, 48)
"""The I/O calls that write the tables of a new ledger to the log."""


def test_no_failing_call_loses_what_was_acknowledged() -> None:
    """Nor charges twice, nor leaves a ledger that does not open."""
    report = check(1)
    assert not report.problems
    assert float(report.figures[0].reached) > 100


def test_a_reply_before_the_commit_is_found() -> None:
    assert check(1, breaking="reply-before-commit").problems


def test_after_a_failed_sync_a_power_loss_finds_no_log_that_only_memory_has() -> None:
    """And where the log is trusted as it reads, the ledger does not even open any more."""
    assert not lose_power_after_failed_syncs(FIRST_COMMIT)
    assert lose_power_after_failed_syncs(FIRST_COMMIT, breaking="sync-trusted-after-failure")


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
async def test_callers_get_store_unavailable_until_the_disk_is_well(
    error: type[apsw.Error], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    layer = DiskLayer("told", disk)

    async def open_store(_: str) -> SqliteStore:
        return await SqliteStore.open(tmp_path / "ledger.sqlite", vfs="told")

    monkeypatch.setattr(app, "open_store", open_store)
    async with serving() as api:
        await api.TopUp(user_id="ada", amount=5, idempotency_key="k-1")
        disk.fail = lambda call, _: error("hunter2") if call in ("write", "sync") else None
        for _ in range(3):
            failure = await fails(api.TopUp(user_id="ada", amount=1, idempotency_key="k-2"))
            assert (failure.code, failure.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "STORE_UNAVAILABLE",
            )
            assert "hunter2" not in str(failure)
        disk.fail = lambda *_: None
        await api.TopUp(user_id="ada", amount=1, idempotency_key="k-2")
        assert await api.balance("ada") == 6
    layer.unregister()
