"""Holds a record against the final ledger: was every answer true, in an order that could be?

The ledger gives each user's writes an order of its own, the sequence. So nothing has to be searched:
the history is replayed in that order, each line must be what the oracle says at its time and must have been
asked for, and each answer must fit a point of the history, and a time, that lie between its request and its
reply. Nobody asks for expiries: each must be due, and none may be missing in front of a line.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from faults import provenance
from faults.clocks import Clock
from faults.oracle import EXPIRE, Change, Oracle, Replay, Verdict
from faults.records import (
    Answer,
    Attempt,
    Charged,
    Dropped,
    Line,
    ReadAccount,
    Record,
    Refusal,
    Request,
)


def judge(record: Record, histories: Mapping[str, Sequence[Line]]) -> list[str]:
    """Return every violation, as a sentence.

    Args:
        record: What clients saw.
        histories: The final history of every user, oldest first.
    """
    found: list[str] = []
    attempts = record.by_user()
    for user_id in sorted({*attempts, *histories}):
        case = _Case(record.clock, histories.get(user_id, ()), attempts.get(user_id, []))
        found += [f"{user_id}: {problem}" for problem in case.problems()]
    return found


class _Case:
    """One user: histories of different users have nothing to do with each other."""

    def __init__(self, clock: Clock, history: Sequence[Line], attempts: list[Attempt]) -> None:
        self.clock = clock
        self.history = history
        self.attempts = attempts
        self.oracle = Oracle(history)
        expiries = (
            one.request.expire_time_us or 0 for one in attempts if isinstance(one.request, TopUp)
        )
        self.moments = sorted({*self.oracle.moments(), *expiries})
        self.made_by: dict[int, Attempt] = {}
        self.found: list[str] = []

    def problems(self) -> list[str]:
        self.found += provenance.problems(self.history)
        self._answered_writes()
        self._unanswered_writes()
        if not self.found:
            self._replay()
        if not self.found:
            self._order()
        return self.found

    def _answered_writes(self) -> None:
        """Every acknowledged transaction is in the history, as it was answered."""
        ids = {line.transaction_id: line for line in self.history}
        for attempt in self.attempts:
            match attempt.answer:
                case Charged(line=told, is_new=is_new):
                    kept = ids.get(told.transaction_id)
                    if kept is None:
                        self.found.append(f"acknowledged and lost: {told}")
                    elif kept != told:
                        self.found.append(f"told {told}, kept {kept}")
                    elif is_new:
                        self._claim(kept, attempt)
                # One that is not recorded, of too many in a minute, has no id.
                case Refusal("INSUFFICIENT_TOKENS", transaction_id) if transaction_id:
                    kept = ids.get(transaction_id)
                    if kept is None:
                        self.found.append(f"denial answered and lost: {transaction_id}")
                    else:
                        self._claim(kept, attempt)

    def _claim(self, line: Line, attempt: Attempt) -> None:
        if line.sequence in self.made_by:
            self.found.append(f"two attempts were told that they made {line}")
        self.made_by[line.sequence] = attempt

    def _unanswered_writes(self) -> None:
        """Every other line was made by an attempt whose outcome is unknown."""
        unknown: dict[Request, list[Attempt]] = {}
        for attempt in self.attempts:
            if attempt.answer is None and not isinstance(attempt.request, ReadAccount):
                unknown.setdefault(attempt.request, []).append(attempt)
        for line in self.history:
            if line.sequence in self.made_by or line.kind == EXPIRE:
                continue
            candidates = [
                attempts
                for request, attempts in unknown.items()
                if attempts and _could_have_made(request, line)
            ]
            if not candidates:
                self.found.append(f"nobody who was left without an answer asked for {line}")
            else:
                # The earliest leaves the widest choice to those after it.
                earliest = min(candidates, key=lambda attempts: attempts[0].began)
                self.made_by[line.sequence] = earliest.pop(0)

    def _replay(self) -> None:
        """Each line is what the rules make of its request on the lines before it."""
        for place, line in enumerate(self.history):
            before = self.oracle.balance(place)
            if (line.sequence, line.balance_before) != (place + 1, before):
                self.found.append(f"does not follow a balance of {before}: {line}")
                return
            if line.balance_after != line.balance_before + line.amount or line.balance_after < 0:
                self.found.append(f"does not add up: {line}")
                return
            problem = (
                self._expiry_problem(place, line)
                if line.kind == EXPIRE
                else self._rule_problem(place, line, self.made_by[line.sequence])
            )
            if problem:
                self.found.append(f"{problem}: {line}")
                return

    def _rule_problem(self, place: int, line: Line, attempt: Attempt) -> str:
        request = attempt.request
        if not _could_have_made(request, line):
            return f"it is not what was asked for with {request}"
        span = self.clock.span(attempt.since, attempt.until)
        if not span.earliest_us <= line.time_us <= span.latest_us:
            return f"its time is not in {span}, when it was asked for"
        due = self.oracle.due(place, line.time_us, at_once=isinstance(request, SetBalance))
        if due:
            return f"the expiry of {due} is not recorded in front of it"
        verdict = self.oracle.verdict(request, place, line.time_us)
        if verdict != Change.told_by(line):
            return f"by the rules it is {verdict}"
        return ""

    def _expiry_problem(self, place: int, line: Line) -> str:
        """An expiry is recorded by the sweeper, or in front of the line after it."""
        following = self.made_by.get(place + 2)
        before_set_balance = (
            following is not None
            and isinstance(following.request, SetBalance)
            and self.history[place + 1].time_us == line.time_us
        )
        choices = {
            self.oracle.due(place, line.time_us, at_once=at_once)
            for at_once in {False, before_set_balance}
        }
        told = Change(EXPIRE, 1, -sum(one.amount for one in line.draws), draws=line.draws)
        if not line.draws or line.draws not in choices or Change.told_by(line) != told:
            return f"by the rules it is the expiry of one of {choices}"
        return ""

    def _order(self) -> None:
        """Every answer fits a place between what ended before it began and what began later."""
        places = {id(attempt): sequence for sequence, attempt in self.made_by.items()}
        answered = [one for one in self.attempts if one.answer is not None or id(one) in places]
        events = sorted(
            [(one.began, 0, one) for one in answered]
            + [(one.ended, 1, one) for one in answered if one.ended is not None],
            key=lambda event: event[:2],
        )
        floor = 0
        begun_at: dict[int, int] = {}
        for _, ends, attempt in events:
            if not ends:
                begun_at[id(attempt)] = floor
                place = places.get(id(attempt))
                if place is not None and place <= floor:
                    self.found.append(f"took place {place} but place {floor} was known: {attempt}")
                    return
                continue
            place = places.get(id(attempt))
            if place is None:
                place = self._earliest_fit(attempt, begun_at[id(attempt)])
            if place is None:
                self.found.append(
                    f"no state from place {begun_at[id(attempt)]} on explains {attempt}"
                )
                return
            floor = max(floor, place)

    def _earliest_fit(self, attempt: Attempt, floor: int) -> int | None:
        if isinstance(attempt.answer, Dropped):
            return floor  # Nothing happened, which is always possible; `_claim` looks at the rest.
        moments = self._moments(attempt)
        for place in range(floor, len(self.history) + 1):
            for moment in moments:
                verdict = self.oracle.verdict(attempt.request, place, moment)
                if _fits(attempt.answer, verdict):
                    return place
        return None

    def _moments(self, attempt: Attempt) -> list[int]:
        """The times in which a request can have been decided, one of each that makes a difference."""
        span = self.clock.span(attempt.since, attempt.until)
        between = slice(
            bisect_right(self.moments, span.earliest_us),
            bisect_right(self.moments, span.latest_us),
        )
        return [span.earliest_us, *self.moments[between]]


def _fits(answer: Answer | None, verdict: Verdict) -> bool:
    if isinstance(answer, Charged):
        if not isinstance(verdict, Replay):
            return False
        right = (verdict.line, verdict.refunded, verdict.covered, not verdict.covered)
        return right == (answer.line, answer.refunded, answer.covered, answer.replayed)
    return verdict == answer


def _could_have_made(request: Request, line: Line) -> bool:
    """Whether a line says what a request says: what it names, its key, its labels."""
    match request:
        case Consume():
            named = (1, request.feature, request.event_id, "", request.quantity, 0, 0)
        case Refund():
            named = (2, "", "", request.transaction_id, 0, 0, 0)
        case TopUp():
            expiry = (request.expire_time_us or 0, request.lifetime_us or 0)
            named = (3, "", "", "", 0, *expiry)
        case SetBalance():
            named = (4, "", "", "", 0, 0, 0)
        case ReadAccount():
            return False
    kept = (
        line.kind,
        line.feature,
        line.event_id,
        line.refunded_transaction_id,
        line.quantity,
        line.expire_time_us,
        line.lifetime_us,
    )
    told = (line.idempotency_key, line.reason, line.labels)
    return named == kept and told == (request.idempotency_key, request.reason, request.labels)
