"""Random requests that quarrel: few users, few tokens, keys used twice, charges refunded twice."""

import itertools
from random import Random

from entitlements_server.ledger.commands import CallerCommand, Consume, Refund, SetBalance, TopUp
from faults.oracle import PRICES
from faults.records import Line, ReadAccount, Request


class Requests:
    """An endless supply, the same for the same seed and the same answers.

    Args:
        random: Where the choices come from.
        users: How many there are.
    """

    def __init__(self, random: Random, users: int) -> None:
        self._random = random
        self._users = [f"user-{number}" for number in range(users)]
        self._numbers = itertools.count()
        self._keys = {user_id: itertools.count() for user_id in self._users}
        self._sent: dict[str, list[CallerCommand]] = {user_id: [] for user_id in self._users}
        self._charges: dict[str, list[str]] = {user_id: [] for user_id in self._users}

    def saw(self, line: Line) -> None:
        """Take note of a transaction that refunds may name."""
        if line.user_id in self._charges:
            self._charges[line.user_id].append(line.transaction_id)

    def next(self) -> Request:
        """Make up the next request."""
        user_id = self._random.choice(self._users)
        if self._random.random() < 0.12:
            return ReadAccount(user_id)
        return self.next_write(user_id)

    def next_write(self, user_id: str = "") -> CallerCommand:
        """Make up the next write."""
        user_id = user_id or self._random.choice(self._users)
        sent = self._sent[user_id]
        dice = self._random.random()
        if sent and dice < 0.15:
            return self._random.choice(sent[-20:])
        request = self._new(user_id, self._key(user_id, dice))
        # What has no key must not be repeated: nobody could tell the two apart.
        if request.idempotency_key:
            sent.append(request)
        return request

    def _key(self, user_id: str, dice: float) -> str:
        if dice < 0.25:
            return ""
        if dice < 0.30 and self._sent[user_id]:
            return self._random.choice(self._sent[user_id][-20:]).idempotency_key
        # Numbered by user: the same keys mean other things for other users.
        return f"key-{next(self._keys[user_id])}"

    def _new(self, user_id: str, key: str) -> CallerCommand:
        random, charges = self._random, self._charges[user_id]
        mark = f"mark-{next(self._numbers)}"
        dice = random.random()
        if dice < 0.55 or (dice < 0.75 and not charges):
            feature = random.choice([*PRICES, *PRICES, "crystal_ball"])
            return Consume(user_id=user_id, feature=feature, event_id=mark, idempotency_key=key)
        if dice < 0.75:
            return Refund(
                user_id=user_id,
                transaction_id=random.choice(charges[-8:]),
                amount=random.choice([0, 0, 1, 2, 3]),
                reason=mark,
                idempotency_key=key,
            )
        if dice < 0.95:
            amount = random.randint(1, 9)
            return TopUp(user_id=user_id, amount=amount, reason=mark, idempotency_key=key)
        balance = random.randint(0, 12)
        return SetBalance(user_id=user_id, balance=balance, reason=mark, idempotency_key=key)
