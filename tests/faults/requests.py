"""Random requests that quarrel: few users, few tokens, keys used twice, charges refunded twice.

Tokens expire after seconds or days, or at times that several top-ups share, some of them past. Events are
looked at again within their access window and after it, with keys and without.
"""

import itertools
from random import Random

from msgspec.structs import replace

from entitlements_server.ledger.commands import CallerCommand, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.values import Labels
from faults.catalogue import DAY_S, PRICES, WINDOWED
from faults.clocks import Clock
from faults.records import Line, ReadAccount, Request

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
LIFETIMES_S = (5, 30, 90, 3600, 2 * DAY_S)


class Requests:
    """An endless supply, the same for the same seed and the same answers.

    Args:
        random: Where the choices come from.
        clock: What expiry times go by.
        users: How many there are.
    """

    def __init__(self, random: Random, clock: Clock, users: int) -> None:
        self._random = random
        self._clock = clock
        self._users = [f"user-{number}" for number in range(users)]
        self._numbers = itertools.count()
        self._keys = {user_id: itertools.count() for user_id in self._users}
        self._sent: dict[str, list[CallerCommand]] = {user_id: [] for user_id in self._users}
        self._charges: dict[str, list[str]] = {user_id: [] for user_id in self._users}

    def saw(self, line: Line) -> None:
        """Take note of a transaction that refunds may name."""
        # Others are named as well, but seldom.
        if line.user_id in self._charges and (line.cost or self._random.random() < 0.1):
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
            again = self._random.choice(sent[-20:])
            return again if dice < 0.12 else self._retold(again)
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

    def _retold(self, request: CallerCommand) -> CallerCommand:
        """Say the same with other labels and another price guard, which are not compared under a key."""
        labels = self._labels()
        if isinstance(request, Consume):
            return replace(request, labels=labels, max_cost=self._random.choice((None, 0, 9)))
        return replace(request, labels=labels)

    def _labels(self) -> Labels:
        """Labels that no other request has: a line that bears them was made by this one."""
        return (("mark", f"{next(self._numbers)}"), ("team", self._random.choice("ab")))

    def _new(self, user_id: str, key: str) -> CallerCommand:
        random, charges = self._random, self._charges[user_id]
        mark = f"mark-{next(self._numbers)}"
        dice = random.random()
        if dice < 0.55 or (dice < 0.75 and not charges):
            return self._charge(user_id, key, mark)
        if dice < 0.75:
            return Refund(
                user_id=user_id,
                transaction_id=random.choice(charges[-8:]),
                amount=random.choice([0, 0, 1, 2, 3]),
                reason=mark,
                idempotency_key=key,
                labels=self._labels() if random.random() < 0.3 else (),
            )
        if dice < 0.95:
            return self._top_up(user_id, key, mark)
        balance = random.randint(0, 12)
        return SetBalance(user_id=user_id, balance=balance, reason=mark, idempotency_key=key)

    def _charge(self, user_id: str, key: str, mark: str) -> Consume:
        random = self._random
        if random.random() < 0.4:
            return Consume(
                user_id=user_id,
                feature=random.choice([*WINDOWED]),
                event_id=random.choice(("event-1", "event-1", "event-1", "event-2", "")),
                quantity=2 if random.random() < 0.04 else 1,
                idempotency_key=key,
                labels=self._labels(),
            )
        return Consume(
            user_id=user_id,
            feature=random.choice([*PRICES, *PRICES, "crystal_ball"]),
            event_id=mark,
            quantity=random.choice((1, 1, 1, 1, 2, 3)),
            max_cost=random.choice((None, None, None, 2, 5)),
            idempotency_key=key,
            labels=self._labels() if random.random() < 0.3 else (),
        )

    def _top_up(self, user_id: str, key: str, mark: str) -> TopUp:
        random = self._random
        expire_time_us = lifetime_us = None
        dice = random.random()
        if dice < 0.4:
            lifetime_us = random.choice(LIFETIMES_S) * SECOND_US
        elif dice < 0.7:
            # On the hour: several have the same. The last hour is past, unless the clock is set back.
            hours = self._clock.near_us() // HOUR_US + random.choice((0, 1, 1, 2, 30))
            expire_time_us = hours * HOUR_US
        return TopUp(
            user_id=user_id,
            amount=random.randint(1, 14),
            expire_time_us=expire_time_us,
            lifetime_us=lifetime_us,
            reason=mark,
            idempotency_key=key,
            labels=self._labels() if random.random() < 0.3 else (),
        )
