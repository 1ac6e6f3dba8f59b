"""A backup of a ledger that is being served."""

import asyncio
from pathlib import Path

from entitlements.v1 import entitlement_service_pb2 as pb
from entitlements.v1.entitlement_service_pb2_grpc import EntitlementServiceStub
from support.programs import command
from support.server_process import run, served
from support.waiting import until


def charge(key: str) -> pb.ConsumeRequest:
    return pb.ConsumeRequest(user_id="ada", feature="full_distribution", idempotency_key=key)


def batch(keys: list[str]) -> pb.BatchConsumeRequest:
    return pb.BatchConsumeRequest(requests=[charge(key) for key in keys])


async def test_a_backup_under_load_holds_every_charge_acknowledged_before(tmp_path: Path) -> None:
    """And its copy verifies, serves, and no half of one is ever under its name."""
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    copy = tmp_path / "copy" / "ledger.sqlite"
    copy.parent.mkdir()
    async with served("--store", url) as (_, channel):
        stub = EntitlementServiceStub(channel)
        await stub.SetBalance(pb.SetBalanceRequest(user_id="ada", balance=10**9))
        # Past the first segment, so that part of the ledger is in tables and part in the commit log.
        acknowledged = [f"early-{number}" for number in range(5000)]
        for start in range(0, len(acknowledged), 1000):
            await stub.BatchConsume(batch(acknowledged[start : start + 1000]))
        stopped = asyncio.Event()

        async def load(worker: int) -> None:
            number = 0
            while not stopped.is_set():
                key = f"{worker}-{number}"
                await stub.Consume(charge(key))
                acknowledged.append(key)
                number += 1

        loads = [asyncio.create_task(load(worker)) for worker in range(32)]
        await until(lambda: len(acknowledged) > 5300)
        before = set(acknowledged)
        backup = await asyncio.create_subprocess_exec(
            command("entitlements-server"), "backup", str(copy), "--store", url
        )
        assert await backup.wait() == 0
        at_least = len(acknowledged)
        await until(lambda: len(acknowledged) > at_least)
        stopped.set()
        await asyncio.gather(*loads)
        assert [file.name for file in copy.parent.iterdir()] == ["ledger.sqlite"]
        # The ledger that is being served is looked at as well: a copy of it.
        verified = run("verify", "--store", url)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "reading a copy" in verified.stderr
    restored = run("verify", "--store", f"sqlite://{copy}")
    assert restored.returncode == 0, restored.stdout
    async with served("--store", f"sqlite://{copy}") as (_, channel):
        stub = EntitlementServiceStub(channel)
        keys = list(before)
        for start in range(0, len(keys), 1000):
            results = (await stub.BatchConsume(batch(keys[start : start + 1000]))).results
            assert all(result.response.replayed for result in results)
