"""Reads the read sets of a group in one statement, so all on one snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from entitlements_server.ledger.state import State
from entitlements_server.ledger.values import Charge
from entitlements_server.stores.format import ForeignFormatError
from entitlements_server.stores.interface import DamagedRecordError
from entitlements_server.stores.postgresql.codec import (
    damaged_account,
    damaged_transaction,
    read_account,
    read_transaction,
)
from entitlements_server.stores.postgresql.connection import Connection
from entitlements_server.stores.postgresql.statements import PREFETCH


@dataclass(slots=True)
class Prefetch:
    """The read set of one user.

    Attributes:
        user_id: The user.
        names: Idempotency keys, and names of access windows.
        charges: Sequences of the transactions that refunds name.
        doubtful: Sequences of which only the write id is read.
        write_id: The account's write id; 0: there is none.
        text: The account as it is stored.
        write_ids: The write id at each sequence of `doubtful` where there is one.
        bindings: What each of `names` is bound to: a sequence, or 0 for none.
        state: Everything else that was read.
        error: Why a record of this user cannot be read.
    """

    user_id: str
    names: Sequence[str]
    charges: Sequence[int]
    doubtful: Sequence[int]
    write_id: int = 0
    text: bytes = b""
    write_ids: dict[int, int] = field(default_factory=dict)
    bindings: dict[str, int] = field(default_factory=dict)
    state: State = field(default_factory=State)
    error: Exception | None = None

    def take(self, rows: Sequence[tuple[str, Any, Any]]) -> None:
        """Use what was found.

        Args:
            rows: What each row is, what it was asked by, and the row.

        Raises:
            DamagedRecordError, ForeignFormatError: A record cannot be read.
        """
        for what, asked, row in rows:
            match what:
                case "account":
                    self._take_account(row)
                case "key":
                    self._take_key(asked, row)
                case "charge":
                    self._take_charge(row)
                case _:
                    self.write_ids[asked] = row["number"]
        # All of it is of one snapshot, so nothing of it may contradict the rest.
        count = self.state.account(self.user_id).transaction_count
        charges = (sequence for _, sequence in self.state.charges)
        newest = max((*self.bindings.values(), *charges), default=0)
        if newest > count:
            raise damaged_account(
                self.user_id,
                f"it has {count} transactions, and there is one with sequence {newest}",
            )
        for sequence in self.charges:
            if 1 <= sequence <= count and (self.user_id, sequence) not in self.state.charges:
                raise damaged_transaction(self.user_id, sequence, "it is missing")

    def _take_account(self, row: Any) -> None:
        self.write_id, self.text = row["number"], row["body"]
        if self.text:
            self.state.accounts[self.user_id] = read_account(self.user_id, self.text)

    def _take_key(self, name: str, row: Any) -> None:
        sequence = row["number"]
        if row["body"] is None:
            raise damaged_transaction(self.user_id, sequence, "it is missing, and has a key")
        bound = read_transaction(self.user_id, sequence, row["body"])
        if name not in bound.names:
            raise DamagedRecordError(
                self.user_id,
                f"the row of entitlements.keys with the key {name!r}",
                "it is bound to a transaction that does not have this key",
            )
        self.bindings[name] = sequence
        self.state.keys[self.user_id, name] = bound
        # A refund that names it is found beside it, and brings the newest refund, too.
        self.state.charges.setdefault((self.user_id, sequence), Charge(bound, row["refunded"]))

    def _take_charge(self, row: Any) -> None:
        sequence = row["number"]
        newest = None
        if row["last"]:
            if row["newest"] is None:
                raise damaged_transaction(self.user_id, row["last"], "it is missing")
            newest = read_transaction(self.user_id, row["last"], row["newest"])
        self.state.charges[self.user_id, sequence] = Charge(
            read_transaction(self.user_id, sequence, row["body"]), row["refunded"], newest
        )


async def prefetch(connection: Connection, prefetches: Sequence[Prefetch]) -> None:
    """Fill in each prefetch. A record that cannot be read is the error of its own one only."""
    users = [one.user_id for one in prefetches]
    keys: list[tuple[Prefetch, Any]] = [(one, name) for one in prefetches for name in one.names]
    charges: list[tuple[Prefetch, Any]] = [
        (one, sequence) for one in prefetches for sequence in one.charges
    ]
    doubtful: list[tuple[Prefetch, Any]] = [
        (one, sequence) for one in prefetches for sequence in one.doubtful
    ]
    rows = await connection.fetch(
        PREFETCH,
        users,
        [one.user_id for one, _ in keys],
        [name for _, name in keys],
        [one.user_id for one, _ in charges],
        [sequence for _, sequence in charges],
        [one.user_id for one, _ in doubtful],
        [sequence for _, sequence in doubtful],
    )
    found: dict[int, list[tuple[str, Any, Any]]] = {}
    places = {id(one): place for place, one in enumerate(prefetches)}
    for row in rows:
        what, index = row["what"], row["index"] - 1
        asked: Any = None
        one = prefetches[index] if what == "account" else None
        if one is None:
            one, asked = {"key": keys, "charge": charges, "write_id": doubtful}[what][index]
        found.setdefault(places[id(one)], []).append((what, asked, row))
    for place, one in enumerate(prefetches):
        one.bindings = dict.fromkeys(one.names, 0)
        try:
            one.take(found.get(place, ()))
        except (DamagedRecordError, ForeignFormatError) as error:
            one.error = error
