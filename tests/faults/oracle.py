"""The rules, written a second time and from the contract alone: slow, plain, and independent.

The product decides on accounts, bound keys and refunded totals that it carries along. The oracle
knows nothing but a user's history, and looks everything up in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from faults.catalogue import PRICES, WINDOWED
from faults.records import Balance, Line, Moved, ReadAccount, Refusal, Request

CONSUME, REFUND, TOP_UP, ADJUSTMENT, EXPIRE = 1, 2, 3, 4, 5
SUCCESS, DENIED = 1, 2
MAX_BALANCE = 2**53 - 1
MAX_GRANTS = 64
MAX_DENIALS = 60
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
GRACE_US = 7 * 86_400 * SECOND_US

POOL = ""
OWN = "own"
"""Stands for the id of the line that is decided on: a grant that it opens has that name."""

Purse = Mapping[str, Moved]
"""The grants that have tokens left, by their ids, whether they have lapsed or not."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a new line of the history has to say."""

    kind: int
    status: int
    amount: int
    cost: int = 0
    draws: tuple[Moved, ...] = ()
    access_until_us: int = 0
    available: int = 0

    @classmethod
    def told_by(cls, line: Line) -> "Change":
        """What a line says. In which order tokens are put somewhere says nothing."""
        draws = [
            Moved(OWN if one.grant == line.transaction_id else one.grant, *one[1:])
            for one in line.draws
        ]
        return cls(
            line.kind,
            line.status,
            line.amount,
            line.cost,
            tuple(sorted(draws) if line.amount > 0 else draws),
            line.access_until_us,
            line.available,
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """The line that has to be answered with again."""

    line: Line
    refunded: int = 0
    covered: bool = False


Verdict = Change | Replay | Refusal | Balance


class _RefusedError(Exception):
    """The request is rejected."""


class Oracle:
    """Knows what a request must come to at any point of one user's history."""

    def __init__(self, history: Sequence[Line]) -> None:
        self._history = history
        self._bound: dict[str, Line] = {}
        self._by_id = {line.transaction_id: line for line in history}
        self._refunds: dict[str, list[Line]] = {}
        self._opened: dict[tuple[str, str], list[Line]] = {}
        self._purses: list[Purse] = [{}]
        for line in history:
            if line.idempotency_key and line.status == SUCCESS:
                self._bound.setdefault(line.idempotency_key, line)
            if line.kind == REFUND:
                self._refunds.setdefault(line.refunded_transaction_id, []).append(line)
            if line.access_until_us:
                self._opened.setdefault((line.feature, line.event_id), []).append(line)
            self._purses.append(_after(self._purses[-1], line))

    def balance(self, place: int) -> int:
        """The tokens after the first `place` transactions."""
        return self._history[place - 1].balance_after if place else 0

    def purse(self, place: int) -> Purse:
        """The grants after the first `place` transactions."""
        return self._purses[place]

    def moments(self) -> Iterator[int]:
        """The times at which verdicts may change though nothing is recorded."""
        for line in self._history:
            yield from (one.expire_time_us for one in line.draws)
            yield line.access_until_us
            if line.status == DENIED:
                minute = line.time_us // MINUTE_US
                yield from (minute * MINUTE_US, (minute + 1) * MINUTE_US)

    def lapsed(self, place: int, until_us: int) -> tuple[Moved, ...]:
        """The grants that expire until then, of which it is not recorded."""
        return tuple(one for one in self._in_order(place) if one.expire_time_us <= until_us)

    def due(self, place: int, now_us: int, *, at_once: bool) -> tuple[Moved, ...]:
        """The grants whose expiry has to be recorded before anything else is."""
        at_once = at_once or len(self._purses[place]) >= MAX_GRANTS
        return self.lapsed(place, now_us if at_once else now_us - MINUTE_US)

    def available(self, place: int, now_us: int) -> int:
        """The tokens that can be spent."""
        return self.balance(place) - sum(one.amount for one in self.lapsed(place, now_us))

    def verdict(self, request: Request, place: int, now_us: int) -> Verdict:
        """What `request` must come to right after the first `place` transactions, at that time.

        What has lapsed is recorded by then, if the request records something: see `due`.
        """
        if isinstance(request, ReadAccount):
            open_ = self._open(place, now_us)
            return Balance(self.balance(place), place, self.available(place, now_us), open_)
        bound = self._bound.get(request.idempotency_key)
        if bound is not None and bound.sequence <= place:
            if self._is_same(request, bound):
                return Replay(bound, self._refunded(bound, place))
            return Refusal("IDEMPOTENCY_KEY_REUSED")
        try:
            match request:
                case Consume():
                    return self._covering(request, place, now_us) or self._charge(
                        request, place, now_us
                    )
                case Refund():
                    return self._refund(request, place, now_us)
                case TopUp():
                    return self._top_up(request, place, now_us)
                case SetBalance():
                    return self._set(request, place, now_us)
        except _RefusedError as error:
            return Refusal(str(error))

    def _in_order(self, place: int) -> list[Moved]:
        return sorted(self._purses[place].values(), key=self._order)

    def _order(self, grant: Moved) -> tuple[int, int]:
        opened = self._by_id.get(grant.grant)
        return grant.expire_time_us, opened.sequence if opened else 0

    def _open(self, place: int, now_us: int) -> tuple[Moved, ...]:
        return tuple(one for one in self._in_order(place) if one.expire_time_us > now_us)

    def _covering(self, request: Consume, place: int, now_us: int) -> Replay | None:
        if not request.event_id or request.quantity != 1:
            return None
        opened = self._opened.get((request.feature, request.event_id), ())
        newest = [one for one in opened if one.sequence <= place][-1:]
        for charge in newest:
            refunded = self._refunded(charge, place)
            if charge.access_until_us > now_us and refunded < charge.cost:
                return Replay(charge, refunded, covered=True)
        return None

    def _charge(self, request: Consume, place: int, now_us: int) -> Verdict:
        if request.feature in PRICES:
            price, access_s = PRICES[request.feature], 0
        elif request.feature in WINDOWED:
            price, access_s = WINDOWED[request.feature]
        else:
            _refuse("UNKNOWN_FEATURE")
        if access_s and request.quantity != 1:
            _refuse("INVALID_FIELD")
        cost = price * request.quantity
        if request.max_cost is not None and request.max_cost < cost:
            _refuse("PRICE_CHANGED")
        available = self.available(place, now_us)
        if available < cost:
            if self._denials(place, now_us) >= MAX_DENIALS:
                _refuse("INSUFFICIENT_TOKENS")
            return Change(CONSUME, DENIED, 0, cost, available=available)
        opens = access_s and cost and request.event_id
        until_us = now_us + access_s * SECOND_US if opens else 0
        taken = self._taken(place, now_us, cost)
        return Change(CONSUME, SUCCESS, -cost, cost, taken, until_us)

    def _denials(self, place: int, now_us: int) -> int:
        count = 0
        for line in reversed(self._history[:place]):
            if line.time_us // MINUTE_US != now_us // MINUTE_US:
                break
            count += line.status == DENIED
        return count

    def _taken(self, place: int, now_us: int, amount: int) -> tuple[Moved, ...]:
        """The soonest to expire first, the pool last."""
        taken: list[Moved] = []
        for grant in self._open(place, now_us):
            part = min(amount, grant.amount)
            if part:
                taken.append(Moved(grant.grant, part, grant.expire_time_us))
            amount -= part
        if taken and amount:
            taken.append(Moved(POOL, amount, 0))
        return tuple(taken)

    def _top_up(self, request: TopUp, place: int, now_us: int) -> Verdict:
        expires_us = request.expire_time_us
        if expires_us is not None and expires_us <= now_us:
            _refuse("INVALID_FIELD")
        if request.lifetime_us is not None:
            expires_us = now_us + request.lifetime_us
        draws: tuple[Moved, ...] = ()
        if expires_us is not None:
            open_ = self._open(place, now_us)
            same = [one.grant for one in open_ if one.expire_time_us == expires_us]
            if not same and len(open_) >= MAX_GRANTS:
                _refuse("TOO_MANY_GRANTS")
            draws = (Moved(same[0] if same else OWN, request.amount, expires_us),)
        self._require_room(place, now_us, request.amount)
        return Change(TOP_UP, SUCCESS, request.amount, draws=draws)

    def _set(self, request: SetBalance, place: int, now_us: int) -> Verdict:
        change = request.balance - self.available(place, now_us)
        draws = self._taken(place, now_us, -change) if change < 0 else ()
        return Change(ADJUSTMENT, SUCCESS, change, draws=draws)

    def _refund(self, request: Refund, place: int, now_us: int) -> Verdict:
        charge = self._by_id.get(request.transaction_id)
        if charge is None or charge.sequence > place:
            _refuse("TRANSACTION_NOT_FOUND")
        if charge.kind != CONSUME or charge.status != SUCCESS or charge.cost == 0:
            _refuse("NOT_REFUNDABLE")
        refunded = self._refunded(charge, place)
        remaining = charge.cost - refunded
        if remaining == 0 and request.amount in (0, charge.cost):
            refunds = [one for one in self._refunds[charge.transaction_id] if one.sequence <= place]
            return Replay(refunds[-1])
        if request.amount > remaining:
            _refuse("REFUND_EXCEEDS_CHARGE")
        amount = request.amount or remaining
        self._require_room(place, now_us, amount)
        draws = self._put_back(charge, refunded, amount, place, now_us)
        return Change(REFUND, SUCCESS, amount, draws=draws)

    def _put_back(
        self, charge: Line, refunded: int, amount: int, place: int, now_us: int
    ) -> tuple[Moved, ...]:
        """Tokens go where they came from: the last that were taken come back first."""
        tokens = [one for one in charge.draws for _ in range(one.amount)]
        coming = tokens[::-1][refunded : refunded + amount]
        open_ = self._open(place, now_us)
        there = {one.grant for one in open_}
        back: dict[tuple[str, int], int] = {}
        for token in coming:
            grant, expires_us = token.grant, token.expire_time_us
            if grant != POOL and expires_us <= now_us:
                expires_us = now_us + GRACE_US
                same = [one.grant for one in open_ if one.expire_time_us == expires_us]
                grant = same[0] if same else OWN
            if grant != POOL and grant not in there:
                if len(there) < MAX_GRANTS:
                    there.add(grant)
                else:
                    later = [one for one in open_ if one.expire_time_us >= expires_us]
                    grant = later[0].grant if later else POOL
                    expires_us = later[0].expire_time_us if later else 0
            back[grant, expires_us] = back.get((grant, expires_us), 0) + 1
        draws = sorted(Moved(grant, count, at) for (grant, at), count in back.items())
        return tuple(draws) if any(one.grant for one in draws) else ()

    def _require_room(self, place: int, now_us: int, amount: int) -> None:
        if self.available(place, now_us) + amount > MAX_BALANCE:
            _refuse("BALANCE_LIMIT_EXCEEDED")

    def _refunded(self, charge: Line, place: int) -> int:
        refunds = self._refunds.get(charge.transaction_id, ())
        return sum(one.amount for one in refunds if one.sequence <= place)

    def _is_same(self, request: Request, bound: Line) -> bool:
        match request:
            case Consume():
                charged = (CONSUME, request.feature, request.event_id, request.quantity)
                return charged == (bound.kind, bound.feature, bound.event_id, bound.quantity)
            case Refund():
                refunded = (REFUND, request.transaction_id, request.reason)
                if refunded != (bound.kind, bound.refunded_transaction_id, bound.reason):
                    return False
                return request.amount == bound.amount or (
                    request.amount == 0 and self._completed(bound)
                )
            case TopUp():
                expiry = (request.expire_time_us or 0, request.lifetime_us or 0)
                added = (TOP_UP, request.amount, request.reason, *expiry)
                kept = (bound.expire_time_us, bound.lifetime_us)
                return added == (bound.kind, bound.amount, bound.reason, *kept)
            case SetBalance():
                set_to = (ADJUSTMENT, request.balance, request.reason)
                return set_to == (bound.kind, bound.balance_after, bound.reason)
            case ReadAccount():
                return False

    def _completed(self, refund: Line) -> bool:
        """Whether nothing of the charge remained after this refund."""
        charge = self._by_id[refund.refunded_transaction_id]
        return self._refunded(charge, refund.sequence) == charge.cost


def _refuse(reason: str) -> NoReturn:
    raise _RefusedError(reason)


def _after(purse: Purse, line: Line) -> Purse:
    """The grants after a line: only what its draws say counts."""
    if not any(one.grant for one in line.draws):
        return purse
    sign = 1 if line.amount > 0 else -1
    after = dict(purse)
    for grant, amount, expires_us in line.draws:
        if grant == POOL:
            continue
        left = after.pop(grant, Moved(grant, 0, expires_us)).amount + sign * amount
        if left:
            after[grant] = Moved(grant, left, expires_us)
    return after
