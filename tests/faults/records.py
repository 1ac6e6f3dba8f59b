"""What clients asked and what they were answered: the record that the judge looks at."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from entitlements_server.ledger.commands import CallerCommand
from entitlements_server.ledger.values import Draw, Kind, Labels, Status, Transaction
from faults.clocks import Clock


class Moved(NamedTuple):
    """Tokens of a grant: its id, or empty for the pool; how many; when they expire, or 0."""

    grant: str
    amount: int
    expire_time_us: int


@dataclass(frozen=True, slots=True)
class Line:
    """A transaction, as far as the rules decide it, from the wire or from the ledger.

    Attributes:
        time_us: When it was decided, microseconds since 1970 UTC.
        available: Of a denial: what could be spent; else 0.
    """

    transaction_id: str
    user_id: str
    sequence: int
    kind: int
    status: int
    feature: str
    cost: int
    amount: int
    balance_before: int
    balance_after: int
    event_id: str
    idempotency_key: str
    reason: str
    refunded_transaction_id: str
    time_us: int
    quantity: int
    draws: tuple[Moved, ...]
    expire_time_us: int
    lifetime_us: int
    access_until_us: int
    available: int
    labels: Labels

    @classmethod
    def of(cls, transaction: Transaction) -> "Line":
        """Take it from a value of the ledger."""
        is_charge = transaction.kind is Kind.CONSUME
        is_denied = transaction.status is Status.DENIED
        return cls(
            **same_fields(transaction),
            time_us=transaction.decided_us,
            quantity=transaction.quantity or int(is_charge),
            draws=tuple(moved(transaction.draws)),
            expire_time_us=transaction.expire_time_us,
            lifetime_us=transaction.lifetime_us,
            access_until_us=transaction.access_until_us,
            available=transaction.available if is_denied else 0,
            labels=transaction.labels,
        )


_SAME = tuple(one.name for one in fields(Line))[:14]


def same_fields(transaction: object) -> dict[str, Any]:
    """Take those fields of a transaction that have one name and one form in ledger and contract."""
    return {name: getattr(transaction, name) for name in _SAME}


def moved(draws: Iterable[Draw]) -> Iterator[Moved]:
    """Take draws, or open grants, from values of the ledger."""
    for one in draws:
        yield Moved(one.grant, one.amount, one.expire_time_us)


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """A read: how much is there, and how long is the history?"""

    user_id: str


Request = CallerCommand | ReadAccount


@dataclass(frozen=True, slots=True)
class Charged:
    """It took effect, now or before: `replayed`, or `covered` by an access window.

    Attributes:
        refunded: Tokens of an earlier charge that were given back so far.
    """

    line: Line
    replayed: bool
    covered: bool = False
    refunded: int = 0

    @property
    def is_new(self) -> bool:
        """Whether the request recorded it."""
        return not self.replayed and not self.covered


@dataclass(frozen=True, slots=True)
class Refusal:
    """It was rejected by a rule. Of a denial the id of the recorded attempt is known, too."""

    reason: str
    transaction_id: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The server promised that nothing was charged: OVERLOADED."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a read found: `grants` are the open ones, soonest to expire first."""

    balance: int
    transaction_count: int
    available: int
    grants: tuple[Moved, ...]


Answer = Charged | Refusal | Dropped | Balance


@dataclass(slots=True, eq=False)
class Attempt:
    """One request on its way.

    An attempt that never got an answer has None: it may have taken effect, or not.

    Attributes:
        began: A tick of the record.
        since: The clock's mark then.
        ended: As `began`.
        until: As `since`.
    """

    request: Request
    began: int
    since: int
    ended: int | None = None
    until: int | None = None
    answer: Answer | None = None


@dataclass(slots=True)
class Record:
    """Everything that was asked, in the order in which it was.

    Attributes:
        clock: What decides by which time.
    """

    clock: Clock
    attempts: list[Attempt] = field(default_factory=list)
    _ticks: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, request: Request) -> Attempt:
        """Note that a request is sent."""
        attempt = Attempt(request, next(self._ticks), self.clock.mark())
        self.attempts.append(attempt)
        return attempt

    def end(self, attempt: Attempt, answer: Answer) -> None:
        """Note what came back."""
        attempt.ended, attempt.until = next(self._ticks), self.clock.mark()
        attempt.answer = answer

    def tick(self) -> int:
        """A moment: what ended before it was known then."""
        return next(self._ticks)

    def as_of(self, tick: int) -> "Record":
        """What was known at a moment: requests that were on their way are without an answer."""
        known = [
            one
            if one.ended is not None and one.ended < tick
            else Attempt(one.request, one.began, one.since)
            for one in self.attempts
            if one.began < tick
        ]
        return Record(self.clock, known, self._ticks)

    def by_user(self) -> dict[str, list[Attempt]]:
        """The attempts about each user."""
        found: dict[str, list[Attempt]] = {}
        for attempt in self.attempts:
            found.setdefault(attempt.request.user_id, []).append(attempt)
        return found

    def unsettled(self) -> list[Request]:
        """Writes that no attempt has settled, each once; only those with a key may be repeated."""
        settled = {
            one.request
            for one in self.attempts
            if one.answer is not None and not isinstance(one.answer, Dropped)
        }
        return list(
            dict.fromkeys(
                one.request
                for one in self.attempts
                if not isinstance(one.request, ReadAccount)
                and one.request.idempotency_key
                and one.request not in settled
            )
        )

    @property
    def acknowledged(self) -> int:
        """Writes that were answered."""
        return sum(
            isinstance(one.answer, Charged) and not one.answer.covered for one in self.attempts
        )
