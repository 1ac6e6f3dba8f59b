"""Reads the read set of a decision in two steps: by name, then what those reads refer to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entitlements_server.ledger.state import State
from entitlements_server.ledger.values import Charge, Transaction
from entitlements_server.stores.interface import DamagedRecordError
from entitlements_server.stores.redis.codec import (
    damaged_account,
    damaged_transaction,
    read_account,
    read_refund,
    read_transaction,
    write_id_of,
)
from entitlements_server.stores.redis.connection import Command, LostError
from entitlements_server.stores.redis.schema import UserKeys


class ContradictionError(LostError):
    """A record is missing that another refers to: it was lost just now, or is damaged.

    Args:
        damage: What to report if that does not change.
    """

    def __init__(self, damage: DamagedRecordError) -> None:
        super().__init__(damage.user_id)
        self.damage = damage


def at(keys: UserKeys, sequence: int) -> Command:
    """Return the command that reads one transaction."""
    chunk, index = keys.index_of(sequence)
    return ("LINDEX", chunk, index)


@dataclass(slots=True)
class Prefetch:
    """The read set of one user.

    The account is read first. Any later change also changes the account, and so is noticed when the
    decision is stored.

    Attributes:
        keys: The user.
        names: Idempotency keys.
        charges: Sequences of the transactions that refunds name.
        doubtful: Sequences of which only the write id is read.
        account: The stored text of the account, once read.
        write_ids: The write ids read, in the order of `doubtful`.
        bindings: What each of `names` is bound to: a sequence, or 0 for none.
        state: Everything that was read, except the write ids.
    """

    keys: UserKeys
    names: Sequence[str]
    charges: Sequence[int]
    doubtful: Sequence[int]
    account: bytes = b""
    write_ids: list[str] = field(default_factory=list)
    bindings: dict[str, int] = field(default_factory=dict)
    state: State = field(default_factory=State)
    _refunds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def first(self) -> list[Command]:
        """Return the commands of the first step."""
        keys = self.keys
        commands: list[Command] = [("HGET", keys.accounts, keys.user_id)]
        if self.names:
            commands.append(("HMGET", keys.bound, *self.names))
        if self.charges:
            commands.append(("HMGET", keys.refunds, *self.charges))
        commands.extend(at(keys, sequence) for sequence in self.doubtful)
        return commands

    def take_first(self, replies: Iterable[Any]) -> None:
        """Use the replies to `first`.

        Raises:
            DamagedRecordError, ForeignFormatError: A record cannot be read.
        """
        rest = iter(replies)
        self.account = next(rest) or b""
        account = read_account(self.keys.user_id, self.account)
        if account.transaction_count:
            self.state.accounts[account.user_id] = account
        if self.names:
            for name, sequence in zip(self.names, next(rest), strict=True):
                try:
                    self.bindings[name] = int(sequence or 0)
                except ValueError as error:
                    raise self._damaged(self.keys.bound, name, error) from error
        if self.charges:
            for sequence, refund in zip(self.charges, next(rest), strict=True):
                if refund is not None:
                    self._refunds[sequence] = self._refund(sequence, refund)
        self.write_ids = [write_id_of(row) for row in rest]

    def second(self) -> list[Command]:
        """Return the commands of the second step. There may be none."""
        commands = [at(self.keys, sequence) for sequence in self._sequences()]
        if bound := self._bound():
            commands.append(("HMGET", self.keys.refunds, *bound))
        return commands

    def take_second(self, replies: Iterable[Any]) -> None:
        """Use the replies to `second`, which complete the state.

        Raises:
            ContradictionError: The two steps contradict each other.
            DamagedRecordError, ForeignFormatError: A record cannot be read.
        """
        user_id = self.keys.user_id
        rest = list(replies)
        refunds = rest.pop() if self._bound() else ()
        rows: dict[int, Transaction] = {
            sequence: read_transaction(user_id, sequence, row)
            for sequence, row in zip(self._sequences(), rest, strict=True)
            if row is not None
        }
        count = self.state.account(user_id).transaction_count
        newest = max((*self.bindings.values(), *rows), default=0)
        if newest > count:
            # Another server wrote since the account was read. Or it is damaged.
            problem = f"it has {count} transactions, and there is one with sequence {newest}"
            raise ContradictionError(damaged_account(user_id, problem))
        for name, sequence in self.bindings.items():
            if not sequence:
                continue
            bound = self._found(rows, sequence)
            if name not in bound.names:
                problem = "it is bound to a transaction that does not have this key"
                raise self._damaged(self.keys.bound, name, ValueError(problem))
            self.state.keys[user_id, name] = bound
        for sequence, refund in zip(self._bound(), refunds, strict=True):
            refunded, _ = self._refund(sequence, refund)
            self.state.charges[user_id, sequence] = Charge(rows[sequence], refunded)
        for sequence in self.charges:
            if 1 <= sequence <= count:
                refunded, last = self._refunds.get(sequence, (0, 0))
                self.state.charges[user_id, sequence] = Charge(
                    self._found(rows, sequence),
                    refunded,
                    self._found(rows, last) if last else None,
                )

    def _found(self, rows: Mapping[int, Transaction], sequence: int) -> Transaction:
        if sequence not in rows:
            # Data was lost since the first step, perhaps by a failover. Or it is damaged.
            raise ContradictionError(
                damaged_transaction(self.keys.user_id, sequence, "it is missing")
            )
        return rows[sequence]

    def _bound(self) -> list[int]:
        """Return the sequences of what keys are bound to, which may have been refunded."""
        return sorted({sequence for sequence in self.bindings.values() if sequence})

    def _refund(self, sequence: int, stored: bytes | None) -> tuple[int, int]:
        """Decode what was refunded of a transaction, and the newest refund."""
        if stored is None:
            return 0, 0
        try:
            return read_refund(stored)
        except ValueError as error:
            raise self._damaged(self.keys.refunds, sequence, error) from error

    def _damaged(self, key: str, of: str | int, error: Exception) -> DamagedRecordError:
        return DamagedRecordError(self.keys.user_id, f"field {of!r} of the key {key}", str(error))

    def _sequences(self) -> list[int]:
        lasts = (last for _, last in self._refunds.values())
        charges = (sequence for sequence in self.charges if sequence >= 1)
        return sorted({*filter(None, self.bindings.values()), *charges, *lasts})
