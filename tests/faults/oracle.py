"""The rules, written a second time and from the contract alone: slow, plain, and independent.

The product decides on accounts, bound keys and refunded totals that it carries along. The oracle
knows nothing but a user's history, and looks everything up in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from faults.records import Balance, Line, ReadAccount, Refusal, Request

PRICES: Mapping[str, int] = {
    "headline_pick": 0,
    "full_distribution": 2,
    "scenario_extremes": 3,
    "comparative_analysis": 3,
    "deep_dive_educational": 5,
}
"""The catalogue that ships, as the product's page lists it."""

CONSUME, REFUND, TOP_UP, ADJUSTMENT = 1, 2, 3, 4
SUCCESS, DENIED = 1, 2
MAX_BALANCE = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Change:
    """What a new line of the history has to say."""

    kind: int
    status: int
    amount: int
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """The line that has to be answered with again."""

    line: Line


Verdict = Change | Replay | Refusal | Balance


class Oracle:
    """Knows what a request must come to at any point of one user's history."""

    def __init__(self, history: Sequence[Line]) -> None:
        self._history = history
        self._bound: dict[str, Line] = {}
        self._by_id = {line.transaction_id: line for line in history}
        self._refunds: dict[str, list[Line]] = {}
        for line in history:
            if line.idempotency_key and line.status == SUCCESS:
                self._bound.setdefault(line.idempotency_key, line)
            if line.kind == REFUND:
                self._refunds.setdefault(line.refunded_transaction_id, []).append(line)

    def balance(self, place: int) -> int:
        """The tokens after the first `place` transactions."""
        return self._history[place - 1].balance_after if place else 0

    def verdict(self, request: Request, place: int) -> Verdict:
        """What `request` must come to right after the first `place` transactions."""
        if isinstance(request, ReadAccount):
            return Balance(self.balance(place), place)
        bound = self._bound.get(request.idempotency_key)
        if bound is not None and bound.sequence <= place:
            if self._is_same(request, bound):
                return Replay(bound)
            return Refusal("IDEMPOTENCY_KEY_REUSED")
        balance = self.balance(place)
        match request:
            case Consume():
                if request.feature not in PRICES:
                    return Refusal("UNKNOWN_FEATURE")
                cost = PRICES[request.feature]
                if balance < cost:
                    return Change(CONSUME, DENIED, 0, cost)
                return Change(CONSUME, SUCCESS, -cost, cost)
            case Refund():
                return self._refund(request, place)
            case TopUp():
                return _within(Change(TOP_UP, SUCCESS, request.amount), balance)
            case SetBalance():
                return Change(ADJUSTMENT, SUCCESS, request.balance - balance)

    def _refund(self, request: Refund, place: int) -> Verdict:
        charge = self._by_id.get(request.transaction_id)
        if charge is None or charge.sequence > place:
            return Refusal("TRANSACTION_NOT_FOUND")
        if charge.kind != CONSUME or charge.status != SUCCESS or charge.cost == 0:
            return Refusal("NOT_REFUNDABLE")
        refunds = [
            one for one in self._refunds.get(charge.transaction_id, ()) if one.sequence <= place
        ]
        remaining = charge.cost - sum(one.amount for one in refunds)
        if remaining == 0 and request.amount in (0, charge.cost):
            return Replay(refunds[-1])
        if request.amount > remaining:
            return Refusal("REFUND_EXCEEDS_CHARGE")
        return _within(Change(REFUND, SUCCESS, request.amount or remaining), self.balance(place))

    def _is_same(self, request: Request, bound: Line) -> bool:
        match request:
            case Consume():
                charged = (CONSUME, request.feature, request.event_id)
                return charged == (bound.kind, bound.feature, bound.event_id)
            case Refund():
                refunded = (REFUND, request.transaction_id, request.reason)
                if refunded != (bound.kind, bound.refunded_transaction_id, bound.reason):
                    return False
                return request.amount == bound.amount or (
                    request.amount == 0 and self._completed(bound)
                )
            case TopUp():
                added = (TOP_UP, request.amount, request.reason)
                return added == (bound.kind, bound.amount, bound.reason)
            case SetBalance():
                set_to = (ADJUSTMENT, request.balance, request.reason)
                return set_to == (bound.kind, bound.balance_after, bound.reason)
            case ReadAccount():
                return False

    def _completed(self, refund: Line) -> bool:
        """Whether nothing of the charge remained after this refund."""
        charge = self._by_id[refund.refunded_transaction_id]
        so_far = self._refunds[charge.transaction_id]
        total = sum(one.amount for one in so_far if one.sequence <= refund.sequence)
        return total == charge.cost


def _within(change: Change, balance: int) -> Verdict:
    if balance + change.amount > MAX_BALANCE:
        return Refusal("BALANCE_LIMIT_EXCEEDED")
    return change
