"""Trials and measurements of the ledger on Redis, at full length: docs/redis.md has the results.

bench/redis_ledger.py race         the last tokens and duplicated keys, 2 and 4 servers
bench/redis_ledger.py kill         SIGKILL and power loss, by appendfsync
bench/redis_ledger.py failover     a master dies and its replica takes over
bench/redis_ledger.py consume      Consume, many users and one, beside an empty grpc.aio server
bench/redis_ledger.py copy         SQLite to Redis and back
bench/redis_ledger.py size         memory and disk of a transaction
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from generators.load import Target
from measure import Result, measure
from report import show
from rich.console import Console
from rich.progress import track
from servers import serving
from sides import OFF, Side, empty_server
from users import MANY
from workloads import CONSUME, GRPC_AIO, HOT_USER, Workload

from entitlements_server.ledger.commands import Command, Consume, Refund, TopUp
from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.ledger.values import Transaction
from entitlements_server.maintenance.copy import copy as copy_ledger
from entitlements_server.stores.factory import open_store
from entitlements_server.stores.interface import Store

# The trials are those of the tests, only longer.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support import trials
from support.ledger import rule_at, whole_history
from support.redis import RedisServer, started

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(width=max(Console().width, 140))


@app.command()
def race(
    keys: Annotated[int, typer.Option(help="Keys to send.")] = 1000,
    copies: Annotated[int, typer.Option(help="How often to send each.")] = 20,
) -> None:
    """Let 2 and 4 servers race, on one Redis and on a cluster."""
    for kind in ("redis", "cluster"):
        for servers in (2, 4):
            with started(kind) as redis:
                codes = asyncio.run(trials.race(redis.url, servers, 200))
                begin = time.monotonic()
                charges = asyncio.run(trials.duplicates(redis.url, servers, keys, copies))
                seconds = time.monotonic() - begin
            console.print(
                f"{kind}, {servers} servers: {dict(codes)};"
                f" {keys} keys x {copies}: {charges} charges, {seconds:.0f} s"
            )


@app.command()
def kill(
    kills: Annotated[int, typer.Option(help="How often to kill Redis.")] = 100,
    fsync: Annotated[str, typer.Option(help="always, everysec or no.")] = "always",
    power: Annotated[bool, typer.Option(help="Also lose what was not synced.")] = False,
) -> None:
    """Kill Redis under load, and count what was lost and what was charged twice."""
    durability = fsync if fsync in ("always", "everysec") else "none"
    with tempfile.TemporaryDirectory() as folder:
        environment, cut = _power_loss(Path(folder)) if power else ({}, lambda _: None)
        with RedisServer(environment=environment, appendfsync=fsync) as redis:
            verdict = asyncio.run(
                trials.kill_and_count(
                    redis,
                    f"{redis.url}?durability={durability}",
                    kills=kills,
                    while_down=lambda: cut(redis.folder),
                    progress=lambda done: console.print(f"{done} of {kills}", end="\r"),
                )
            )
    console.print(f"appendfsync {fsync}, {'power loss' if power else 'SIGKILL'}: {verdict}")


def _power_loss(folder: Path) -> tuple[dict[str, str], Callable[[Path], None]]:
    """Make Redis remember what it synced, and a function that cuts its files back to that."""
    library, log = folder / "synced.so", folder / "synced.log"
    source = Path(__file__).with_name("synced.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def cut(data: Path) -> None:
        synced: dict[int, int] = {}
        for line in log.read_text().splitlines():
            inode, size = line.split()
            synced[int(inode)] = int(size)
        for file in data.glob("appendonlydir/*.incr.aof"):
            status = file.stat()
            os.truncate(file, min(status.st_size, synced.get(status.st_ino, 0)))

    return {"LD_PRELOAD": str(library), "SYNCED_LOG": str(log)}, cut


@app.command()
def failover(
    runs: Annotated[int, typer.Option(help="How many masters to kill.")] = 10,
    replicas: Annotated[int, typer.Option(help="Replicas to wait for: 0 or 1.")] = 0,
    lag: Annotated[float, typer.Option(help="Seconds that the replica hangs before.")] = 0.0,
) -> None:
    """Kill a master under load, promote its replica, and count what it does not have."""
    lost = acknowledged = 0
    for _ in track(range(runs), console=console):
        gone, told = asyncio.run(_failover(replicas, lag))
        lost, acknowledged = lost + gone, acknowledged + told
    console.print(
        f"{runs} failovers, replicas={replicas}, replica behind by {lag} s:"
        f" {lost} of {acknowledged} acknowledged charges lost"
    )


async def _failover(replicas: int, lag: float) -> tuple[int, int]:
    with RedisServer() as master, RedisServer(replicaof=f"127.0.0.1 {master.port}") as replica:
        master.wait_for_replica()
        tally, stop = trials.Tally(), asyncio.Event()
        async with trials.serving(f"{master.url}?replicas={replicas}", 1) as apis:
            for number in range(8):
                await apis[0].TopUp(user_id=trials.user_of(number), amount=10**9)
            load = asyncio.create_task(trials.charging(apis, tally, 32, stop))
            await trials.more(tally, random.randint(100, 500))
            if lag:
                replica.pause()
                await asyncio.sleep(lag)
            master.kill()
            told = dict(tally.acknowledged)
            stop.set()
            await load
        replica.resume()
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        return len(await trials.missing(replica, told)), len(told)


@app.command()
def consume(
    seconds: Annotated[float, typer.Option(help="Length of each measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(help="How often the two take turns.")] = 3,
) -> None:
    """Measure Consume of 1,000 users and of one on Redis and a cluster, beside an empty server."""
    for kind in ("redis", "cluster"):
        with started(kind) as redis:
            asyncio.run(_fill(redis.url, MANY))
            results = asyncio.run(_consume(redis.url, [CONSUME, HOT_USER], seconds, rounds))
        show(console, kind, results)
        many, one = results
        hot = one.median(OFF, "rate") / many.median(OFF, "rate")
        console.print(f"{kind}: one hot user reaches {hot:.2f} of 1,000 users")


async def _fill(url: str, users: int) -> None:
    from users import user_id  # noqa: PLC0415  # the names that the workloads use

    store = await open_store(url)
    everyone: list[Command] = [TopUp(user_id=user_id(n), amount=10**9) for n in range(users)]
    await store.commit(everyone, rule_at(time.time_ns() // 1000))
    await store.close()


async def _consume(
    url: str, workloads: list[Workload], seconds: float, rounds: int
) -> list[Result]:
    async with serving(url) as server, empty_server("grpc_aio", GRPC_AIO, "") as empty:
        found = [Side(OFF, server, Target(server.address)), empty]
        return [
            await measure(
                found, one, stored=0, seconds=seconds, rounds=rounds, advance=lambda: None
            )
            for one in workloads
        ]


@app.command()
def copy(
    transactions: Annotated[int, typer.Option(help="Transactions to copy.")] = 100_000,
    users: Annotated[int, typer.Option(help="Users that they are of.")] = 2_000,
) -> None:
    """Copy a ledger from SQLite to Redis and back, and compare all histories."""
    with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
        first, last = f"sqlite://{folder}/first.sqlite", f"sqlite://{folder}/last.sqlite"
        asyncio.run(_write(first, transactions, users))
        for source, target in ((first, redis.url), (redis.url, last)):
            asyncio.run(_copy(source, target))
        same = asyncio.run(_everything(first)) == asyncio.run(_everything(last))
        console.print(f"identical histories: {same}")


async def _copy(source_url: str, target_url: str) -> None:
    source, target = await open_store(source_url), await open_store(target_url)
    begin = time.monotonic()
    ends: list[float] = []

    def copying_ended(done: int, total: int) -> None:
        if done == total:
            ends.append(time.monotonic())

    copied = await copy_ledger(source, target, resume=False, copying=copying_ended)
    copying, verifying = ends[0] - begin, time.monotonic() - ends[0]
    console.print(
        f"{source_url.partition(':')[0]} to {target_url.partition(':')[0]}: {copied},"
        f" {copied.appended / copying:,.0f} transactions/s copied,"
        f" {copied.transactions / verifying:,.0f}/s verified"
    )
    await source.close()
    await target.close()


async def _write(url: str, transactions: int, users: int) -> None:
    """Write a ledger of charges, top-ups, refunds and denials; some users have far more."""
    store = await open_store(url)
    charges: list[Transaction] = []
    made = 0
    while made < transactions:
        commands: list[Command] = []
        for place in range(min(500, transactions - made)):
            user = f"user-{min(int(random.paretovariate(0.5)), users)}"
            key = f"{made + place:08x}-7d1c-4b5e-9f00-cafe00000000"
            if place % 10 == 0:
                commands.append(
                    TopUp(user_id=user, amount=50, reason="monthly", idempotency_key=key)
                )
            elif place % 25 == 1 and charges:
                charge = charges.pop()
                commands.append(
                    Refund(
                        user_id=charge.user_id,
                        transaction_id=charge.transaction_id,
                        idempotency_key=key,
                    )
                )
            else:
                commands.append(
                    Consume(
                        user_id=user,
                        feature="full_distribution",
                        event_id=f"event-{place}",
                        idempotency_key=key,
                    )
                )
        outcomes = await store.commit(commands, rule_at(time.time_ns() // 1000))
        new = [outcome.transaction for outcome in outcomes if isinstance(outcome, Recorded)]
        charges = [one for one in new if one.cost and one.amount]
        made += len(new)
    await store.close()


async def _everything(url: str) -> dict[str, list[Transaction]]:
    store = await open_store(url)
    found = {user: await whole_history(store, user) for user in await _users(store)}
    await store.close()
    return found


async def _users(store: Store) -> list[str]:
    users: list[str] = []
    cursor = ""
    while True:
        page = await store.accounts(cursor, 1000)
        users += (account.user_id for account in page.accounts)
        cursor = page.next_cursor
        if not cursor:
            return sorted(users)


@app.command()
def size(
    transactions: Annotated[int, typer.Option(help="Transactions to store.")] = 100_000,
    users: Annotated[int, typer.Option(help="Users that they are of.")] = 2_000,
) -> None:
    """Tell what a transaction takes of Redis' memory and of its append-only file."""
    with RedisServer() as redis, redis.client() as client:
        empty = client.info("memory")["used_memory"]
        asyncio.run(_write(redis.url, transactions, users))
        memory = client.info("memory")["used_memory"] - empty
        appended = client.info("persistence")["aof_current_size"]
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.05)
        rewritten = client.info("persistence")["aof_current_size"]
    console.print(
        f"{memory / transactions:.0f} bytes of memory a transaction,"
        f" {appended / transactions:.0f} of the append-only file as written,"
        f" {rewritten / transactions:.0f} once it is rewritten"
    )


if __name__ == "__main__":
    app()
