"""Clients of the engine without a network: what a servicer does, and a record of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from entitlements_server.engine.engine import Engine
from entitlements_server.engine.sweeper import Sweeper
from entitlements_server.errors import OverloadedError
from entitlements_server.ledger.decide import denial
from entitlements_server.ledger.outcomes import Rejected, Replayed, Unchanged
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.values import Kind
from entitlements_server.stores.interface import (
    CommandResult,
    Failed,
    Store,
    StoreUnavailableError,
)
from faults.clocks import Clock
from faults.records import (
    Answer,
    Balance,
    Charged,
    Dropped,
    Line,
    ReadAccount,
    Record,
    Refusal,
    Request,
    moved,
)
from faults.requests import Requests


async def ask(
    engine: Engine, store: Store, record: Record, request: Request, deadline: float | None = None
) -> Answer | None:
    """Send one request and note the answer; None when it is unknown what became of it."""
    attempt = record.begin(request)
    try:
        if isinstance(request, ReadAccount):
            account = await store.account(request.user_id)
            spendable = settled(account, record.clock.now_us())
            answer: Answer = Balance(
                account.balance,
                account.transaction_count,
                spendable.balance,
                tuple(moved(spendable.grants)),
            )
        else:
            (outcome,) = await engine.submit([request], deadline)
            answer = told(outcome)
    except OverloadedError:
        answer = Dropped()
    except StoreUnavailableError:
        return None
    record.end(attempt, answer)
    return answer


def told(outcome: CommandResult) -> Answer:
    """Translate an outcome as the servicer does."""
    assert not isinstance(outcome, Failed)
    if isinstance(outcome, Rejected):
        error = outcome.error
        transaction_id = ""
        if error.reason == "INSUFFICIENT_TOKENS":
            transaction_id = error.metadata.get("transaction_id", "")
        return Refusal(error.reason, transaction_id)
    assert not isinstance(outcome, Unchanged)
    if denial(outcome.transaction):
        return Refusal("INSUFFICIENT_TOKENS", outcome.transaction.transaction_id)
    line = Line.of(outcome.transaction)
    if not isinstance(outcome, Replayed):
        return Charged(line, replayed=False)
    refunded = outcome.refunded if outcome.transaction.kind is Kind.CONSUME else 0
    return Charged(line, not outcome.covered, outcome.covered, refunded)


async def client(
    engine: Engine,
    store: Store,
    record: Record,
    requests: Requests,
    *,
    random: Random,
    count: int,
) -> None:
    """Ask one request after another; give up on some, and set some a deadline."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await asyncio.sleep(random.expovariate(500))
        deadline = loop.time() + random.expovariate(1000) if random.random() < 0.1 else None
        asking = asyncio.ensure_future(ask(engine, store, record, requests.next(), deadline))
        patience = random.expovariate(1000) if random.random() < 0.15 else None
        done, _waiting = await asyncio.wait([asking], timeout=patience)
        if not done:
            asking.cancel()
            await asyncio.wait([asking])
            continue
        answer = asking.result()
        if isinstance(answer, Charged):
            requests.saw(answer.line)


@contextmanager
def sweeping(store: Store, engine: Engine, clock: Clock) -> Iterator[None]:
    """Have the sweeper run beside the block."""
    running = asyncio.ensure_future(Sweeper(store, engine, clock.now_us).run())
    try:
        yield
    finally:
        running.cancel()


async def settle(engine: Engine, store: Store, record: Record) -> None:
    """Send everything again whose outcome is unknown and which has a key, one at a time; then read."""
    for request in record.unsettled():
        await ask(engine, store, record, request)
    for user_id in sorted(record.by_user()):
        await ask(engine, store, record, ReadAccount(user_id))


async def histories(store: Store) -> dict[str, list[Line]]:
    """Read the whole ledger."""
    found: dict[str, list[Line]] = {}
    cursor = ""
    while True:
        page = await store.accounts(cursor, 1000)
        for account in page.accounts:
            newest = await _history(store, account.user_id)
            found[account.user_id] = newest[::-1]
        cursor = page.next_cursor
        if not cursor:
            return found


async def _history(store: Store, user_id: str) -> list[Line]:
    found: list[Line] = []
    before = 2**62
    while page := await store.history(user_id, before, 1000):
        found += [Line.of(one) for one in page]
        before = page[-1].sequence
    return found
