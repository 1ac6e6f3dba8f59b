"""What SQLite does at most: the rows of charges, inserted in groups into tables with the same keys.

No rules, no gRPC, no idempotency: rows made ready beforehand, one commit and one sync a group.
"""

import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import apsw
from generators import generator, run
from generators.load import Target
from servers import serving
from users import USERS, user_id
from workloads import Workload

_GROUPS = 400
_SIZE = 100
_SCHEMA = """
CREATE TABLE accounts (
    number INTEGER PRIMARY KEY, user_id TEXT NOT NULL UNIQUE, balance INTEGER NOT NULL,
    transaction_count INTEGER NOT NULL, create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL
) STRICT;
CREATE TABLE transactions (
    account INTEGER NOT NULL, sequence INTEGER NOT NULL, kind INTEGER NOT NULL,
    status INTEGER NOT NULL, feature TEXT NOT NULL, cost INTEGER NOT NULL, amount INTEGER NOT NULL,
    balance_after INTEGER NOT NULL, create_time_us INTEGER NOT NULL, event_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL, reason TEXT NOT NULL, refunded_transaction_id TEXT NOT NULL,
    caller TEXT NOT NULL, catalogue_version TEXT NOT NULL,
    PRIMARY KEY (account, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    account INTEGER NOT NULL, idempotency_key TEXT NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (account, idempotency_key)
) STRICT, WITHOUT ROWID;
"""
"""What a charge needs at the least; the service's own tables may have more."""


async def compare_with_raw(
    ledger: Path, batches: Workload, seconds: float, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure batches of 100 and raw inserts of the same rows in turns; returns facts."""
    rates: list[tuple[float, float]] = []
    sender = generator(batches.generator)
    assert sender is not None
    async with serving(f"sqlite://{ledger}") as server:
        for number in range(rounds + 1):
            raw = raw_inserts(ledger.with_name(f"raw-{number}.sqlite"), _SIZE)
            load = await run(sender, Target(server.address), batches.make(seconds), seconds)
            await server.quiet()
            rates.append((_SIZE * load.rate, raw))
    del rates[0]  # it warmed up
    ratio = median(mine / raw for mine, raw in rates)
    say(
        f"{batches.name}: {median(mine for mine, _ in rates):,.0f} charges per second;"
        f" raw inserts in groups of {_SIZE}: {median(raw for _, raw in rates):,.0f};"
        f" ratio {ratio:.2f}"
    )
    return {"batches_and_raw_inserts_per_second": rates, "batches_to_raw_inserts": ratio}


def raw_inserts(path: Path, size: int) -> float:
    """Return how many charges per second are inserted in groups of `size`."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute(_SCHEMA)
    with connection:
        connection.executemany(
            "INSERT INTO accounts VALUES (?, ?, 1000000000, 0, 0, 0)",
            [(number, user_id(number)) for number in range(USERS)],
        )
    groups = [_group(number, size) for number in range(_GROUPS)]
    begin = time.perf_counter()
    for transactions, keys, accounts in groups:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO transactions VALUES (?, ?, 1, 1, ?, 2, -2, ?, ?, ?, ?, '', '', '', ?)",
            transactions,
        )
        connection.executemany("INSERT INTO idempotency_keys VALUES (?, ?, ?)", keys)
        connection.executemany(
            "UPDATE accounts SET balance = ?, transaction_count = ?, update_time_us = ?"
            " WHERE number = ?",
            accounts,
        )
        connection.execute("COMMIT")
    rate = _GROUPS * size / (time.perf_counter() - begin)
    connection.close()
    return rate


def _group(number: int, size: int) -> tuple[list[tuple[object, ...]], ...]:
    transactions: list[tuple[object, ...]] = []
    keys: list[tuple[object, ...]] = []
    accounts: list[tuple[object, ...]] = []
    now_us = time.time_ns() // 1000
    for index in range(size):
        account = random.randrange(USERS)
        sequence = number * size + index + 1
        balance = 10**9 - 2 * sequence
        key = f"{number:08x}-{secrets.token_hex(14)}"
        event = f"event-{index}"
        transactions.append(
            (account, sequence, "full_distribution", balance, now_us, event, key, "0123456789ab")
        )
        keys.append((account, key, sequence))
        accounts.append((balance, sequence, now_us, account))
    return transactions, keys, accounts
