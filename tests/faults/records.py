"""What clients asked and what they were answered: the record that the judge looks at."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

from entitlements_server.ledger.commands import CallerCommand


@dataclass(frozen=True, slots=True)
class Line:
    """A transaction, as far as the rules decide it, from the wire or from the ledger."""

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

    @classmethod
    def of(cls, transaction: Any) -> "Line":
        """Take it from a message or from a value of the ledger: the names are the same."""
        return cls(*_VALUES(transaction))


_VALUES = attrgetter(*(field.name for field in fields(Line)))


@dataclass(frozen=True, slots=True)
class ReadAccount:
    """A read: how much is there, and how long is the history?"""

    user_id: str


Request = CallerCommand | ReadAccount


@dataclass(frozen=True, slots=True)
class Charged:
    """It took effect, now or (`replayed`) before."""

    line: Line
    replayed: bool


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
    """What a read found."""

    balance: int
    transaction_count: int


Answer = Charged | Refusal | Dropped | Balance


@dataclass(slots=True, eq=False)
class Attempt:
    """One request on its way: `began` and `ended` are ticks of the record's clock.

    An attempt that never got an answer has None: it may have taken effect, or not.
    """

    request: Request
    began: int
    ended: int | None = None
    answer: Answer | None = None


@dataclass(slots=True)
class Record:
    """Everything that was asked, in the order in which it was."""

    attempts: list[Attempt] = field(default_factory=list)
    _clock: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, request: Request) -> Attempt:
        """Note that a request is sent."""
        attempt = Attempt(request, next(self._clock))
        self.attempts.append(attempt)
        return attempt

    def end(self, attempt: Attempt, answer: Answer) -> None:
        """Note what came back."""
        attempt.ended, attempt.answer = next(self._clock), answer

    def tick(self) -> int:
        """A moment: what ended before it was known then."""
        return next(self._clock)

    def as_of(self, tick: int) -> "Record":
        """What was known at a moment: requests that were on their way are without an answer."""
        known = [
            Attempt(one.request, one.began, one.ended, one.answer)
            if one.ended is not None and one.ended < tick
            else Attempt(one.request, one.began)
            for one in self.attempts
            if one.began < tick
        ]
        return Record(known, self._clock)

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
        return sum(isinstance(one.answer, Charged) for one in self.attempts)


def lines(transactions: Iterable[Any]) -> list[Line]:
    """Turn transactions into lines."""
    return [Line.of(transaction) for transaction in transactions]
