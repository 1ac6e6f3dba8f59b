"""Compares a ledger with a checkpoint while verify recomputes the chains."""

from collections.abc import Iterator

from entitlements_server.ledger.values import Account
from entitlements_server.maintenance.heads import Entry, Heads, user_digest
from entitlements_server.maintenance.verify import Witness
from entitlements_server.stores.interface import Finding, LedgerIdentity


class Comparison(Witness):
    """Requires that a ledger still contains what a checkpoint says.

    Each history must have the head that it had, at the length that it had; what came later is free.
    Keeps a byte for each user of the checkpoint.

    Args:
        was: The identity of the ledger in the checkpoint.
        tokens: The sum of all balances in the checkpoint.
        heads: The side file of the checkpoint.
        now: The identity of the ledger.
    """

    def __init__(self, was: LedgerIdentity, tokens: int, heads: Heads, now: LedgerIdentity) -> None:
        self._was = was
        self._now = now
        self._heads = heads
        self._tokens_left = tokens
        self._seen = bytearray(len(heads))
        self._expected: Entry | None = None

    def begin(self, account: Account) -> int:
        """See Witness."""
        index = self._heads.find(user_digest(self._was.id, account.user_id))
        if index is None:
            self._expected = None
            return 0
        self._seen[index] = 1
        self._expected = self._heads[index]
        return self._expected.length

    def compare(self, account: Account) -> Iterator[str]:
        """See Witness."""
        expected, self._expected = self._expected, None
        if expected is None:
            return
        self._tokens_left -= account.balance
        if account.head != expected.head:
            yield (
                f"its first {expected.length} transactions are not those of the checkpoint: one of them"
                " was changed, dropped, inserted or moved, or an older copy was continued"
            )

    def end(self, account: Account) -> Iterator[str]:
        """See Witness."""
        if self._expected is not None:
            yield (
                f"it has {account.transaction_count} transactions and had {self._expected.length} at"
                " the checkpoint: the newest were dropped, or an older copy was put in its place"
            )

    def finish(self) -> Iterator[Finding]:
        """See Witness."""
        was, now = self._was, self._now
        if now.id != was.id:
            yield Finding("", "", f"its id is {now.id} and the checkpoint is of ledger {was.id}")
        elif now.generation < was.generation:
            yield Finding(
                "",
                "",
                f"its generation is {now.generation} and was {was.generation} at the checkpoint: an"
                " older copy was put in its place",
            )
        if all(self._seen):
            if self._tokens_left:
                yield Finding(
                    "",
                    "",
                    "the balances at the checkpoint do not add up to the tokens in its header",
                )
            return
        for index, seen in enumerate(self._seen):
            if not seen:
                user, length, _ = self._heads[index]
                yield Finding(
                    "",
                    "",
                    f"the user with the digest {user.hex()} had {length} transactions at the checkpoint"
                    " and is gone",
                )
