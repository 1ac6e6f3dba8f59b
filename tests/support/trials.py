"""Trials of several real servers on one ledger, as long as one likes. Import it as `support.trials`.

The tests run short ones; `bench/redis_ledger.py` runs them at full length.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc

from entitlements_server.ledger.values import Kind, Status, Transaction, sequence_of
from entitlements_server.stores.factory import open_store
from support.ledger import whole_history
from support.redis import RedisServer
from support.rpc import Api
from support.server_process import ServerProcess

_OF_ITS_OWN = (("grpc.use_local_subchannel_pool", 1),)
"""A connection of its own for each channel."""

_USERS = 100


@asynccontextmanager
async def serving(url: str, count: int, workers: int = 1) -> AsyncIterator[list[Api]]:
    """Run some servers on one ledger while the block runs. Yields connections to them, in turns.

    Args:
        url: Of the ledger.
        count: How many servers.
        workers: Processes of each server. The kernel gives each connection to one of them, so there are
            eight times as many.
    """
    async with AsyncExitStack() as stack:
        processes = [
            stack.enter_context(
                ServerProcess(
                    # Every denial stands in the history, and is counted there.
                    *("--store", url, "--workers", str(workers), "--max-recorded-denials", "1000")
                )
            )
            for _ in range(count)
        ]
        apis = []
        for _ in range(1 if workers == 1 else 8 * workers):
            for process in processes:
                channel = grpc.aio.insecure_channel(process.address, options=_OF_ITS_OWN)
                apis.append(Api(await stack.enter_async_context(channel)))
        yield apis


async def race(url: str, servers: int, clients: int, workers: int = 1) -> Counter[str]:
    """Let clients of all servers ask at once for 2 of the last 10 tokens of one user.

    Returns:
        How often each status code was answered.
    """
    async with serving(url, servers, workers) as apis:
        await apis[0].TopUp(user_id="racer", amount=10, idempotency_key="top-up")
        codes = await asyncio.gather(
            *(
                _code(apis[n % len(apis)].Consume(
                    user_id="racer", feature="full_distribution", idempotency_key=f"race-{n}"
                ))
                for n in range(clients)
            )
        )  # fmt: skip
        past = await apis[-1].history("racer")
        assert [one.sequence for one in past] == list(range(clients + 1, 0, -1))
        assert await apis[0].balance("racer") == sum(one.amount for one in past) == 0
        return Counter(codes)


async def duplicates(url: str, servers: int, keys: int, copies: int, *, workers: int = 1) -> int:
    """Send each key several times, through all servers in turn and all mixed up.

    Returns:
        How many charges there are in the end.
    """
    async with serving(url, servers, workers) as apis:
        names = [f"dup-{n}" for n in range(_USERS)]
        for name in names:
            await apis[0].TopUp(user_id=name, amount=10**6, idempotency_key="top-up")
        calls = [(key, copy) for key in range(keys) for copy in range(copies)]
        random.shuffle(calls)
        made: dict[int, set[str]] = {key: set() for key in range(keys)}
        places = asyncio.Semaphore(200)

        async def one(key: int, copy: int) -> None:
            async with places:
                response = await apis[copy % len(apis)].Consume(
                    user_id=names[key % _USERS],
                    feature="full_distribution",
                    idempotency_key=f"key-{key}",
                )
            made[key].add(response.transaction.transaction_id)

        await asyncio.gather(*(one(key, copy) for key, copy in calls))
        assert all(len(ids) == 1 for ids in made.values())
        charges = 0
        for name in names:
            past = await apis[0].history(name)
            charges += len(past) - 1
            assert await apis[-1].balance(name) == 10**6 - 2 * (len(past) - 1)
        return charges


@dataclass(frozen=True)
class Shares:
    """How a hot user was charged over several servers.

    Attributes:
        charges: Of each server.
        seconds: How long it took.
        slowest_s: The longest call.
    """

    charges: list[int]
    seconds: float
    slowest_s: float


async def hot(url: str, servers: int, charges: int, clients: int = 8) -> Shares:
    """Charge one user over all servers at once, until so many charges are made."""
    user = f"hot-{servers}"
    async with serving(url, servers) as apis:
        await apis[0].TopUp(user_id=user, amount=10**9 + 2 * servers, idempotency_key="top-up")
        for api in apis:
            # What a server does only once, such as to connect, is not what is looked at here.
            await api.Consume(user_id=user, feature="full_distribution")
        made = [0] * servers
        slowest_s = 0.0
        begin = time.monotonic()

        async def client(server: int) -> None:
            nonlocal slowest_s
            while sum(made) < charges:
                asked = time.monotonic()
                await apis[server].Consume(user_id=user, feature="full_distribution")
                slowest_s = max(slowest_s, time.monotonic() - asked)
                made[server] += 1

        await asyncio.gather(*(client(n % servers) for n in range(clients * servers)))
        seconds = time.monotonic() - begin
        assert await apis[-1].balance(user) == 10**9 - 2 * sum(made)
    return Shares(made, seconds, slowest_s)


async def _code(call: "asyncio.Future[object]") -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


@dataclass
class Tally:
    """What clients were answered.

    Attributes:
        acknowledged: The transaction of each key whose charge was acknowledged, in order.
        unavailable: How many calls were answered with UNAVAILABLE.
        other: How many ended in another way, by code.
    """

    acknowledged: dict[str, str] = field(default_factory=dict)
    unavailable: int = 0
    other: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Verdict:
    """What became of a ledger whose Redis was killed again and again.

    Attributes:
        kills: How often.
        acknowledged: Charges that were acknowledged to clients.
        lost: How many of those the ledger does not have.
        doubled: How many keys were charged more than once.
        unavailable: How many calls were answered with UNAVAILABLE in the meantime.
        losses: How many were lost in each kill.
    """

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    unavailable: int
    losses: list[int]


async def charging(apis: list[Api], tally: Tally, clients: int, stop: asyncio.Event) -> None:
    """Charge with a new key each time, and again with the same key until it is acknowledged."""
    serial = itertools.count()

    async def client(number: int) -> None:
        api, user = apis[number % len(apis)], user_of(number)
        while not stop.is_set():
            key = f"charge-{next(serial)}"
            while not stop.is_set():
                try:
                    response = await api.Consume(
                        user_id=user, feature="full_distribution", idempotency_key=key, timeout=20
                    )
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        tally.other[error.code().name] += 1
                    tally.unavailable += 1
                    await asyncio.sleep(0.01)
                    continue
                tally.acknowledged[f"{user} {key}"] = response.transaction.transaction_id
                break

    await asyncio.gather(*(client(number) for number in range(clients)))


def user_of(client: int) -> str:
    """Eight users, so that some servers share one."""
    return f"user-{client % 8}"


async def kill_and_count(
    redis: RedisServer,
    url: str,
    *,
    kills: int,
    servers: int = 2,
    clients: int = 32,
    while_down: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Kill Redis with SIGKILL under load, start it again, and count what was lost or doubled.

    Args:
        redis: The server to kill.
        url: Of the ledger on it.
        kills: How often.
        servers: Server processes on it.
        clients: Clients that charge all the time.
        while_down: Is called between kill and start, to do to its files what a crash would.
        progress: Is called after each kill.
    """
    tally, stop = Tally(), asyncio.Event()
    losses: list[int] = []
    checked = 0
    async with serving(url, servers) as apis:
        for number in range(8):
            await apis[0].TopUp(user_id=user_of(number), amount=10**9, idempotency_key="top-up")
        load = asyncio.create_task(charging(apis, tally, clients, stop))
        try:
            for kill in range(1, kills + 1):
                await more(tally, random.randint(50, 400))
                redis.kill()
                while_down()
                told = list(tally.acknowledged.items())
                await asyncio.to_thread(redis.start)
                losses.append(len(await missing(redis, dict(told[checked:]))))
                checked = len(told)
                progress(kill)
            await more(tally, 50)
        finally:
            stop.set()
            await load
    assert not tally.other, tally.other
    gone = await missing(redis, tally.acknowledged)
    by_key: Counter[str] = Counter()
    store = await open_store(url)
    for number in range(8):
        user = user_of(number)
        past = await whole_history(store, user)
        by_key.update(f"{user} {one.idempotency_key}" for one in past if _is_charge(one))
        assert [one.sequence for one in past] == list(range(1, len(past) + 1))
        assert (await store.account(user)).balance == sum(one.amount for one in past)
    await store.close()
    return Verdict(
        kills=kills,
        acknowledged=len(tally.acknowledged),
        lost=len(gone),
        doubled=sum(count > 1 for count in by_key.values()),
        unavailable=tally.unavailable,
        losses=losses,
    )


async def more(tally: Tally, count: int) -> None:
    """Wait until so many more charges were acknowledged."""
    goal = len(tally.acknowledged) + count
    async with asyncio.timeout(60):
        while len(tally.acknowledged) < goal:  # noqa: ASYNC110  # a count, not an event
            await asyncio.sleep(0.002)


async def missing(redis: RedisServer, told: dict[str, str]) -> set[str]:
    """The keys that were acknowledged and that the server does not have under that transaction."""
    store = await open_store(redis.url + "?durability=none")
    found = await asyncio.gather(
        *(
            store.transaction(key.partition(" ")[0], sequence_of(transaction_id) or 0)
            for key, transaction_id in told.items()
        )
    )
    await store.close()
    return {
        key
        for (key, transaction_id), one in zip(told.items(), found, strict=True)
        if one is None or one.transaction_id != transaction_id
    }


def _is_charge(one: Transaction) -> bool:
    return one.kind is Kind.CONSUME and one.status is Status.SUCCESS
