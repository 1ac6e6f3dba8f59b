"""What SQLite does at most: the rows of charges, inserted in groups into the same schema.

No rules, no gRPC, no idempotency: rows made ready beforehand, one commit and one sync a group.
"""

import random
import secrets
import time
from pathlib import Path

import apsw

from entitlements_server.stores.sqlite.database import migrations

_USERS = 10_000
_GROUPS = 400
_ACCOUNT = '{"1":"user-00000","2":1000000000,"101":"' + "x" * 44 + '","102":"' + "x" * 22 + '"}'


def raw_inserts(path: Path, size: int) -> float:
    """Return how many charges per second are inserted in groups of `size`."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    for step in migrations():
        connection.execute(step)
    with connection:
        connection.executemany(
            "INSERT INTO accounts VALUES (?, ?, 0, ?)",
            [(number, f"user-{number:05}", _ACCOUNT) for number in range(_USERS)],
        )
    groups = [_group(number, size) for number in range(_GROUPS)]
    begin = time.perf_counter()
    for transactions, keys, accounts in groups:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO transactions VALUES (?, ?, ?)",
            transactions,
        )
        connection.executemany("INSERT INTO idempotency_keys VALUES (?, ?, ?)", keys)
        connection.executemany(
            "UPDATE accounts SET transaction_count = ?, stored = ? WHERE number = ?",
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
        account = random.randrange(_USERS)
        sequence = number * size + index + 1
        balance = 10**9 - 2 * sequence
        key = f"{number:08x}-{secrets.token_hex(14)}"
        row = (
            f'{{"3":{sequence},"4":1,"5":1,"6":"full_distribution","7":2,"8":-2,"10":{balance},'
            f'"11":{now_us},"12":"event-{index}","17":"0123456789ab","2":"user-{account:05}",'
            f'"13":"{key}"}}'
        )
        transactions.append((account, sequence, row))
        keys.append((account, key, sequence))
        accounts.append((sequence, _ACCOUNT, account))
    return transactions, keys, accounts
