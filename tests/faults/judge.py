"""Holds a record against the final ledger: was every answer true, in an order that could be?

The ledger gives each user's writes an order of its own, the sequence. So nothing has to be searched:
the history is replayed in that order, each line must be what the oracle says and must have been asked
for, and each answer must fit a point of the history that lies between its request and its reply.
"""

from collections.abc import Mapping, Sequence

from faults.oracle import Change, Oracle, Replay
from faults.records import (
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
        case = _Case(user_id, histories.get(user_id, ()), attempts.get(user_id, []))
        found += [f"{user_id}: {problem}" for problem in case.problems()]
    return found


class _Case:
    """One user: histories of different users have nothing to do with each other."""

    def __init__(self, user_id: str, history: Sequence[Line], attempts: list[Attempt]) -> None:
        self.history = history
        self.attempts = attempts
        self.oracle = Oracle(history)
        self.made_by: dict[int, Attempt] = {}
        self.found: list[str] = []

    def problems(self) -> list[str]:
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
                case Charged(line=told, replayed=replayed):
                    kept = ids.get(told.transaction_id)
                    if kept is None:
                        self.found.append(f"acknowledged and lost: {told}")
                    elif kept != told:
                        self.found.append(f"told {told}, kept {kept}")
                    elif not replayed:
                        self._claim(kept, attempt)
                case Refusal(reason="INSUFFICIENT_TOKENS", transaction_id=transaction_id):
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
            if line.sequence in self.made_by:
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
            verdict = self.oracle.verdict(self.made_by[line.sequence].request, place)
            told = Change(line.kind, line.status, line.amount, line.cost)
            if verdict != told:
                self.found.append(f"by the rules it is {verdict}, and the ledger has {line}")
                return

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
        for place in range(floor, len(self.history) + 1):
            verdict = self.oracle.verdict(attempt.request, place)
            told = attempt.answer
            if isinstance(told, Charged):
                if isinstance(verdict, Replay) and verdict.line == told.line:
                    return place
            elif verdict == told:
                return place
        return None


def _could_have_made(request: Request, line: Line) -> bool:
    """Whether a line bears the marks of a request: kind, key, and what it names."""
    if isinstance(request, ReadAccount) or request.idempotency_key != line.idempotency_key:
        return False
    names = {
        "Consume": (1, getattr(request, "feature", ""), getattr(request, "event_id", "")),
        "Refund": (2, getattr(request, "transaction_id", ""), getattr(request, "reason", "")),
        "TopUp": (3, "", getattr(request, "reason", "")),
        "SetBalance": (4, "", getattr(request, "reason", "")),
    }[type(request).__name__]
    told = {
        1: (line.feature, line.event_id),
        2: (line.refunded_transaction_id, line.reason),
        3: ("", line.reason),
        4: ("", line.reason),
    }[line.kind]
    return names == (line.kind, *told)
