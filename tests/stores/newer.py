"""A newer version of the program, in a process of its own: python newer.py MAJOR.MINOR URL DEED.

It is this one with a made-up fact and a made-up personal field of a transaction and a made-up field of
an account, each of which it fills in. What it says is one JSON object.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from msgspec import field
from msgspec.structs import fields, replace

from entitlements_server.ledger import values


class Transaction(
    values.Transaction, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True
):
    # A field that is declared again moves to the end: so the new fact comes before what is personal.
    flavour: str = field(default="", name="60")
    user_id: str = field(default="", name="2")
    idempotency_key: str = field(default="", name="13")
    reason: str = field(default="", name="14")
    caller: str = field(default="", name="16")
    nickname: str = field(default="", name="61")
    salt: str = field(default="", name="101")
    carried: bytes = b""


class Account(
    values.Account, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True
):
    tier: str = field(default="", name="60")


# Each of these comes before what uses it is imported.
vars(values).update(Transaction=Transaction, Account=Account)
from entitlements_server.stores import format as store_format  # noqa: E402

NEWER = store_format.Format(*map(int, sys.argv[1].split(".")))
vars(store_format).update(FORMAT=NEWER)
store_format.Format.is_readable = property(  # type: ignore[method-assign, assignment]
    lambda self: self.major <= NEWER.major
)

from entitlements_server.ledger import fold, invariants, state  # noqa: E402
from entitlements_server.ledger.catalogue import BUILT_IN  # noqa: E402
from entitlements_server.ledger.commands import TopUp  # noqa: E402
from entitlements_server.ledger.decide import bind  # noqa: E402
from entitlements_server.ledger.outcomes import Recorded  # noqa: E402
from entitlements_server.maintenance.verify import verify  # noqa: E402
from entitlements_server.stores.factory import open_store  # noqa: E402
from entitlements_server.stores.sqlite import database, file_format  # noqa: E402
from entitlements_server.stores.sqlite.database import Database  # noqa: E402

SCHEMA = Path(database.__file__).with_name("sql") / "schema" / "1.0.sql"


def migrations() -> list[str]:
    return [SCHEMA.read_text("utf-8"), "CREATE TABLE tiers (tier TEXT) STRICT"][: NEWER.minor + 1]


def migrate(self: Database, path: Path, steps: Any = None) -> Any:
    really_migrate(self, path, steps)
    file_format.mark(self._connection, NEWER)
    return NEWER


def account_after(account: Any, transaction: Any, stored: bytes) -> Any:
    after = really_after(account, transaction, stored)
    return replace(after, tier=transaction.nickname or account.tier)


really_migrate, really_after = Database.migrate, fold.account_after
vars(database).update(migrations=migrations)
Database.migrate = migrate  # type: ignore[method-assign]
for module in (fold, invariants, state):
    vars(module).update(account_after=account_after)


def rule(account: Any, facts: Any, command: Any) -> Any:
    outcome = bind(BUILT_IN, 1_790_000_000_000_000)(account, facts, command)
    assert isinstance(outcome, Recorded)
    return Recorded(replace(outcome.transaction, flavour="mint", nickname="Ada ☕"))


async def main(url: str, deed: str) -> dict[str, Any]:
    store = await open_store(url)
    if deed in ("write", "die"):
        await store.commit([TopUp(user_id="ada", amount=10, caller="newer")], rule)
    account = await store.account("ada")
    if deed == "die":
        print(json.dumps({"balance": account.balance}), flush=True)  # noqa: T201  # its answer
        os._exit(1)
    history = await store.history_after("ada", 0, 100)
    found = [str(finding) async for finding in verify(store)]
    await store.accounts("", 1)
    await store.close()
    mine = [one.name for one in fields(Transaction) if one.name in ("flavour", "nickname")]
    return {
        "balance": account.balance,
        "tier": account.tier,  # type: ignore[attr-defined]
        "made": [{name: getattr(one, name) for name in mine} for one in history],
        "head": account.head.hex(),
        "findings": found,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(asyncio.run(main(*sys.argv[2:]))))  # noqa: T201  # that is its answer
    except Exception as error:
        print(json.dumps({"refused": str(error)}))  # noqa: T201
        raise
