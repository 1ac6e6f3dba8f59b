"""Edits of recorded history, and two forgers who make them.

The clumsy forger changes the rows of one history and nothing else. The careful one also recomputes the
account with its head, and all else that the store keeps about that user.

`python -m support.forgeries` writes which edits are found into docs/proof.md.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import apsw
from msgspec.structs import replace

from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.encoding import encode_account, encode_transaction
from entitlements_server.ledger.fold import account_after
from entitlements_server.ledger.state import Entry
from entitlements_server.ledger.values import (
    Account,
    Charge,
    Kind,
    Status,
    Transaction,
    sequence_of,
)
from entitlements_server.maintenance.checkpoint import Checkpoint, take
from entitlements_server.maintenance.report import report
from entitlements_server.stores.interface import Finding, Store
from entitlements_server.stores.memory import MemoryStore
from entitlements_server.stores.redis import open_redis
from entitlements_server.stores.redis.codec import (
    write_account,
    write_refund,
    write_transaction,
)
from entitlements_server.stores.redis.schema import UserKeys
from entitlements_server.stores.sqlite import SqliteStore
from support.ledger import NOW_US, record
from support.redis import RedisServer, flush
from support.repository import DOCS

USER = "ada"
"""Whose history is edited."""

PAGE = DOCS / "proof.md"
TABLE = re.compile(r"(?<=<!-- forgeries -->\n).*?(?=<!-- end -->)", re.DOTALL)
"""Where the table stands in the page."""

History = list[Transaction]
Edit = Callable[[History], History]


@dataclass(frozen=True, slots=True)
class Forgery:
    """An edit of recorded history.

    Attributes:
        what: The edit, as the table names it.
        edit: Returns another history for USER; an empty one: the user is gone.
        consistent: Whether the careful forger makes sequences, balances and ids follow from each other
            again. Otherwise only the head is recomputed.
        whole: Whether there is no clumsy way: both forgers do the same.
        renamed: The name under which the whole history is stored instead.
        everyone: Whether it is done to all users, and not only to USER.
    """

    what: str
    edit: Edit
    consistent: bool = False
    whole: bool = False
    renamed: str = ""
    everyone: bool = False


def _set(number: int, **fields: object) -> Edit:
    """Set fields of one transaction."""

    def edit(history: History) -> History:
        assert all(getattr(history[number - 1], name) != to for name, to in fields.items())
        changed = replace(history[number - 1], **fields)
        return [*history[: number - 1], changed, *history[number:]]

    return edit


def _drop(sequence: int) -> Edit:
    return lambda history: [*history[: sequence - 1], *history[sequence:]]


def _swap(history: History) -> History:
    return [*history[:2], history[3], history[2], *history[4:]]


def _insert(history: History) -> History:
    before = history[3]
    new = replace(
        before,
        kind=Kind.TOP_UP,
        feature="",
        event_id="",
        idempotency_key="",
        cost=0,
        amount=7,
        balance_after=before.balance_after + 7,
        reason="a present",
    )
    return [*history[:4], new, *history[4:]]


def _refund_of_another(history: History) -> History:
    other = history[2].transaction_id
    return _set(7, refunded_transaction_id=other)(history)


FORGERIES = (
    Forgery("`sequence` of a charge", _set(4, sequence=33)),
    Forgery("`kind`: a top-up becomes an adjustment", _set(6, kind=Kind.ADJUSTMENT)),
    Forgery("`status`: a denial becomes a success", _set(9, status=Status.SUCCESS)),
    Forgery("`feature` of a charge", _set(3, feature="deep_dive_educational")),
    Forgery("`cost` of a denial", _set(9, cost=400)),
    Forgery(
        "`amount` of a top-up, times ten", _set(10, amount=50, balance_after=51), consistent=True
    ),
    Forgery("`balance_after` of a charge", _set(4, balance_after=1)),
    Forgery("`create_time` of a charge", _set(4, create_time_us=NOW_US + 3_000_001)),
    Forgery("`event_id` of a charge", _set(3, event_id="another")),
    Forgery("`idempotency_key` of a charge", _set(4, idempotency_key="k-33")),
    Forgery("`reason` of an adjustment", _set(8, reason="asked for by the user")),
    Forgery("`refunded_transaction_id` of a refund", _refund_of_another),
    Forgery("`caller` of a charge", _set(3, caller="somebody")),
    Forgery("`catalogue_version` of a charge", _set(3, catalogue_version="another")),
    Forgery("`decision_time` of a charge", _set(4, decision_time_us=NOW_US)),
    Forgery("`user_id` of a charge", _set(4, user_id="bob")),
    Forgery("the salt of a history", _set(1, salt="another")),
    Forgery("the newest transaction dropped", lambda history: history[:-1]),
    Forgery("the first transaction dropped", _drop(1), consistent=True),
    Forgery("a charge dropped", _drop(4), consistent=True),
    Forgery("two charges swapped", _swap, consistent=True),
    Forgery("a top-up inserted", _insert, consistent=True),
    Forgery("a whole user dropped", lambda _: []),
    Forgery("a whole user renamed", list, consistent=True, whole=True, renamed="eve"),
    Forgery(
        "all users as in an older copy", lambda history: history[:5], whole=True, everyone=True
    ),
)
"""Every stored field of a transaction, and every kind of other edit. Numbers are those of `fill`."""


async def fill(store: Store, users: Sequence[str] = (USER, "bob", "cy")) -> None:
    """Record a history with everything that there is, for each user."""
    for user in users:
        time_us = NOW_US

        async def one(command: Command) -> Transaction:
            nonlocal time_us
            time_us += 1_000_000
            [made] = await record(store, command, now_us=time_us)  # awaited in the loop
            return made

        def charge(key: str) -> Consume:
            return Consume(
                user_id=user,  # noqa: B023  # called in the loop
                feature="full_distribution",
                event_id=f"event-{key}",
                idempotency_key=key,
                caller="web",
            )

        await one(TopUp(user_id=user, amount=3))
        await one(TopUp(user_id=user, amount=10, idempotency_key="k-0", reason="a start"))
        for key in ("k-1", "k-2", "k-3"):
            charged = await one(charge(key))
        await one(TopUp(user_id=user, amount=1))
        await one(Refund(user_id=user, transaction_id=charged.transaction_id, amount=1))
        await one(SetBalance(user_id=user, balance=1, reason="an audit"))
        await one(charge("k-4"))
        await one(TopUp(user_id=user, amount=5))
        await one(charge("k-5"))


def _consistent(history: History, user_id: str = "") -> History:
    """Make sequences, balances, salt and ids follow from each other again."""
    made: History = []
    ids: dict[str, str] = {}
    salt = next((one.salt for one in history if one.salt), "forged")
    balance = time_us = 0
    for sequence, one in enumerate(history, 1):
        # An adjustment sets the balance, whatever it was before.
        amount = one.balance_after - balance if one.kind is Kind.ADJUSTMENT else one.amount
        balance += amount
        time_us = max(time_us, one.create_time_us)
        new = replace(
            one,
            sequence=sequence,
            amount=amount,
            balance_after=balance,
            create_time_us=time_us,
            refunded_transaction_id=ids.get(one.refunded_transaction_id, ""),
            salt="" if made else salt,
            user_id=user_id or one.user_id,
        )
        ids[one.transaction_id] = new.transaction_id
        made.append(new)
    return made


def _entries(user_id: str, history: History) -> list[Entry]:
    """The account after each transaction, whatever rules they break."""
    account = Account(user_id)
    entries: list[Entry] = []
    for one in history:
        stored = encode_transaction(one)
        account = account_after(account, one, stored)
        entries.append(Entry(one, stored, account))
    return entries


def _refunds(history: History) -> dict[int, tuple[int, int]]:
    """What was refunded of each charge, and the newest refund."""
    refunds: dict[int, tuple[int, int]] = {}
    for one in history:
        if charge := sequence_of(one.refunded_transaction_id):
            refunds[charge] = (refunds.get(charge, (0, 0))[0] + one.amount, one.sequence)
    return refunds


class Place(Protocol):
    """Where a ledger is kept that somebody can write to past the server."""

    async def open(self) -> Store:
        """Open the ledger."""

    def write_history(self, user_id: str, history: History) -> None:
        """Replace the transactions of a user, and nothing else."""

    def write_rest(self, user_id: str, history: History) -> None:
        """Replace all else that is stored about a user by what the history leads to."""


class MemoryPlace:
    """A ledger in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def open(self) -> Store:
        return self._store

    def write_history(self, user_id: str, history: History) -> None:
        charges = self._store._state.charges
        for key in [key for key in charges if key[0] == user_id]:
            del charges[key]
        charges.update({(user_id, row): Charge(one) for row, one in enumerate(history, 1)})

    def write_rest(self, user_id: str, history: History) -> None:
        accounts = self._store._state.accounts
        accounts.pop(user_id)
        if history:
            account = _entries(user_id, history)[-1].account
            accounts[user_id] = replace(account, transaction_count=len(history))


class SqlitePlace:
    """A ledger file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def open(self) -> Store:
        return await SqliteStore.open(self._file)

    def write_history(self, user_id: str, history: History) -> None:
        with closing(apsw.Connection(str(self._file))) as connection, connection:
            number = self._number(connection, user_id)
            connection.execute("DELETE FROM transactions WHERE account = ?", (number,))
            connection.executemany(
                "INSERT INTO transactions (account, sequence, stored) VALUES (?, ?, ?)",
                [
                    (number, row, encode_transaction(one).decode())
                    for row, one in enumerate(history, 1)
                ],
            )

    def write_rest(self, user_id: str, history: History) -> None:
        with closing(apsw.Connection(str(self._file))) as connection, connection:
            number = self._number(connection, user_id)
            for table in ("idempotency_keys", "refunds", "changes"):
                connection.execute(f"DELETE FROM {table} WHERE account = ?", (number,))
            if not history:
                connection.execute("DELETE FROM accounts WHERE number = ?", (number,))
                return
            account = _entries(user_id, history)[-1].account
            connection.execute(
                "UPDATE accounts SET stored = ?, transaction_count = ? WHERE number = ?",
                (encode_account(account).decode(), account.transaction_count, number),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO idempotency_keys VALUES (?, ?, ?)",
                [(number, one.idempotency_key, one.sequence) for one in history if one.binds_key],
            )
            connection.executemany(
                "INSERT INTO refunds VALUES (?, ?, ?, ?)",
                [(number, charge, *total) for charge, total in _refunds(history).items()],
            )
            connection.executemany(
                "INSERT INTO changes (account, sequence) VALUES (?, ?)",
                [(number, one.sequence) for one in history],
            )

    def _number(self, connection: apsw.Connection, user_id: str) -> int:
        find = "SELECT number FROM accounts WHERE user_id = ?"
        for (number,) in connection.execute(find, (user_id,)):
            return int(number)
        connection.execute("INSERT INTO accounts VALUES (NULL, ?, 0, '{}')", (user_id,))
        return connection.last_insert_rowid()


class RedisPlace:
    """A Redis server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._client = server.client()
        flush(server)

    async def open(self) -> Store:
        return await open_redis(self._server.url)

    def write_history(self, user_id: str, history: History) -> None:
        keys = UserKeys(user_id)
        texts = [write_transaction(entry, "forged") for entry in _entries(user_id, history)]
        self._client.delete(keys.chunk(0))
        if texts:
            self._client.rpush(keys.chunk(0), *texts)

    def write_rest(self, user_id: str, history: History) -> None:
        keys = UserKeys(user_id)
        self._client.delete(keys.bound, keys.refunds)
        if not history:
            self._client.hdel(keys.accounts, user_id)
            self._client.zrem(keys.users, user_id)
            return
        account = _entries(user_id, history)[-1].account
        self._client.hset(keys.accounts, user_id, write_account(account, "forged"))
        self._client.zadd(keys.users, {user_id: 0})
        for one in history:
            if one.binds_key:
                self._client.hset(keys.bound, one.idempotency_key, one.sequence)
        for charge, total in _refunds(history).items():
            self._client.hset(keys.refunds, str(charge), write_refund(*total))


class Seen(NamedTuple):
    """Who finds an edit: verify, and verify --against."""

    by_verify: bool
    against: bool


async def findings_of(place: Place, checkpoint: Path | None = None) -> Sequence[Finding]:
    """What verify finds, compared with a checkpoint if there is one."""
    store = await place.open()
    try:
        if checkpoint is None:
            return (await report(store)).findings
        with Checkpoint.open(checkpoint) as earlier:
            comparison = earlier.comparison(await store.identity())
            return (await report(store, witness=comparison)).findings
    finally:
        await store.close()


async def forge(place: Place, forgery: Forgery, checkpoint: Path, *, careful: bool) -> None:
    """Fill a ledger, take a checkpoint of it, go on a little, and edit it."""
    store = await place.open()
    await fill(store)
    taken = await take(store, checkpoint)
    assert taken.header, taken.report
    await record(store, TopUp(user_id="dan", amount=1))
    users = [USER, "bob", "cy"] if forgery.everyone else [USER]
    histories = {user: list(await store.history_after(user, 0, 100)) for user in users}
    await store.close()
    careful |= forgery.whole
    for user, history in histories.items():
        edited, target = forgery.edit(history), user
        if forgery.renamed:
            place.write_history(user, [])
            place.write_rest(user, [])
            target = forgery.renamed
        if careful and forgery.consistent:
            edited = _consistent(edited, forgery.renamed)
        place.write_history(target, edited)
        if careful:
            place.write_rest(target, edited)


async def seen(place: Place, forgery: Forgery, folder: Path, *, careful: bool) -> Seen:
    """Make a forgery in an empty place, and say who finds it."""
    checkpoint = folder / f"checkpoint-{len(list(folder.iterdir()))}"
    await forge(place, forgery, checkpoint, careful=careful)
    return Seen(bool(await findings_of(place)), bool(await findings_of(place, checkpoint)))


async def table(folder: Path) -> str:
    """Make every forgery on SQLite and on Redis, and draw who finds it."""
    lines = ["| edit | `verify`, clumsy | `verify`, careful | `verify --against`, both |"]
    lines.append("|---|---|---|---|")
    with RedisServer() as server:
        for number, forgery in enumerate(FORGERIES):
            found = {
                (kind, careful): await seen(place, forgery, folder, careful=careful)
                for careful in (False, True)
                for kind, place in (
                    ("SQLite", SqlitePlace(folder / f"{number}-{careful}.sqlite")),
                    ("Redis", RedisPlace(server)),
                )
            }
            cells = [
                _cell([kind for kind in ("SQLite", "Redis") if found[kind, careful].by_verify])
                for careful in (False, True)
            ]
            against = all(one.against for one in found.values())
            lines.append(
                f"| {forgery.what} | {' | '.join(cells)} | {'found' if against else '**no**'} |"
            )
    return "\n".join(lines) + "\n"


def _cell(kinds: Sequence[str]) -> str:
    if len(kinds) == 1:
        return f"found on {kinds[0]}"
    return "found" if kinds else "no"


def main() -> None:
    """Write the table into the page."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = asyncio.run(table(Path(folder)))
    PAGE.write_text(TABLE.sub(lambda _: drawn, PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
