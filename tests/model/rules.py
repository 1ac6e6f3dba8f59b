"""The model: every token is an object of its own, and nothing is computed cleverly.

An account is a list of tokens. A charge takes them out of the list one by one and remembers them; a refund
puts the last of them back. Ids of transactions are the store's: the model knows sequences.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby

from entitlements_server.ledger.catalogue import Catalogue
from entitlements_server.ledger.commands import (
    CallerCommand,
    Command,
    Consume,
    Refund,
    SetBalance,
    Settle,
    TopUp,
)

MINUTE_US = 60_000_000
FOREVER = float("inf")

Moved = list[tuple[int, int, int]]
"""Sequence of the grant, or 0 for the pool; tokens; expiry, or 0."""


@dataclass(frozen=True)
class Token:
    """One token. `lot` is the sequence of the transaction that opened its grant; 0: the pool."""

    lot: int = 0
    expires: float = FOREVER

    @property
    def order(self) -> tuple[float, int]:
        return self.expires, self.lot


@dataclass
class Line:
    """What a transaction has to say."""

    kind: str
    amount: int
    time: int
    command: Command | None = None
    denied: bool = False
    cost: int = 0
    quantity: int = 0
    moved: list[Token] = field(default_factory=list)
    access_until: int = 0
    available: int = 0
    refunds: int = 0
    back: int = 0

    @property
    def summary(self) -> Moved:
        """The tokens that were moved, in order. Nothing if they are all of the pool."""
        if all(token.lot == 0 for token in self.moved):
            return []
        return [
            (lot, len(list(some)), 0 if lot == 0 else int(expires))
            for (lot, expires), some in groupby(self.moved, lambda one: (one.lot, one.expires))
        ]


@dataclass
class Wanted:
    """What has to come of a command: new lines, an earlier one, or a reason."""

    lines: list[Line] = field(default_factory=list)
    answer: int = 0
    covered: bool = False
    refunded: int = 0
    reason: str = ""


@dataclass
class User:
    """One user's tokens, history, bound keys and access windows."""

    tokens: list[Token] = field(default_factory=list)
    history: list[Line] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)
    windows: dict[tuple[str, str], int] = field(default_factory=dict)

    def line(self, sequence: int) -> Line:
        return self.history[sequence - 1]

    def spendable(self, now: int) -> list[Token]:
        return sorted((one for one in self.tokens if one.expires > now), key=lambda one: one.order)

    def lots(self, now: int) -> set[Token]:
        """The open grants."""
        return {one for one in self.spendable(now) if one.lot}

    def recent_denials(self, now: int) -> int:
        count = 0
        for line in reversed(self.history):
            if line.time // MINUTE_US != now // MINUTE_US:
                break
            count += line.denied
        return count


class Model:
    """What has to come of each command.

    Args:
        max_grants: Most open grants.
        max_denials: Most denials recorded in a minute.
        grace: How long tokens of lapsed grants last, microseconds.
    """

    def __init__(self, max_grants: int, max_denials: int, grace: int) -> None:
        self.max_grants = max_grants
        self.max_denials = max_denials
        self.grace = grace
        self.users: dict[str, User] = {}

    def user(self, user_id: str) -> User:
        return self.users.setdefault(user_id, User())

    def decide(
        self, command: Command, refunds: int | None, now: int, catalogue: Catalogue
    ) -> Wanted:
        """Decide a command, and take in what it records.

        `refunds` is the sequence of the charge that a refund names, if it exists.
        """
        user = self.user(command.user_id)
        if command.idempotency_key in user.keys:
            return self._retried(user, command, refunds)
        if isinstance(command, Consume) and command.event_id and command.quantity == 1:
            opened = user.windows.get((command.feature, command.event_id))
            if opened is not None:
                line = user.line(opened)
                if now < line.access_until and line.back < line.cost:
                    return Wanted(answer=opened, covered=True, refunded=line.back)
        expired = self._expired(user, command, now)
        trial = replace(user, tokens=[one for one in user.tokens if one not in expired])
        trial_sequence = len(user.history) + 1 + bool(expired)
        try:
            own = self._line(trial, trial_sequence, command, refunds, now, catalogue)
        except Rejection as rejection:
            return Wanted(reason=rejection.reason)
        except AnswerError as answer:
            return Wanted(answer=answer.sequence)
        wanted = Wanted()
        if expired:
            moved = sorted(expired, key=lambda one: one.order)
            wanted.lines.append(Line("EXPIRE", -len(expired), now, moved=moved))
        if own is not None:
            wanted.lines.append(own)
        user.tokens = trial.tokens
        user.history += wanted.lines
        if own is not None and not own.denied:
            self._bind(user, command, own, len(user.history))
        return wanted

    def _retried(self, user: User, command: Command, refunds: int | None) -> Wanted:
        sequence = user.keys[command.idempotency_key]
        line = user.line(sequence)
        before = line.command
        assert before is not None
        if isinstance(command, Refund) and isinstance(before, Refund):
            charge = user.line(line.refunds)
            newest = max(n for n, one in enumerate(user.history, 1) if one.refunds == line.refunds)
            rest = charge.back == charge.cost and newest == sequence
            same = (
                refunds == line.refunds
                and command.reason == before.reason
                and (command.amount == line.amount or (not command.amount and rest))
            )
        else:
            same = _essence(command) == _essence(before)
        if not same:
            return Wanted(reason="IDEMPOTENCY_KEY_REUSED")
        return Wanted(answer=sequence, refunded=line.back)

    def _expired(self, user: User, command: Command, now: int) -> list[Token]:
        lots = {one.lot for one in user.tokens if one.lot}
        at_once = isinstance(command, SetBalance) or len(lots) >= self.max_grants
        until = now if at_once else now - MINUTE_US
        return [one for one in user.tokens if one.expires <= until]

    def _line(  # noqa: PLR0917
        self,
        user: User,
        sequence: int,
        command: Command,
        refunds: int | None,
        now: int,
        catalogue: Catalogue,
    ) -> Line | None:
        match command:
            case Consume():
                return self._consume(user, command, now, catalogue)
            case TopUp():
                return self._top_up(user, sequence, command, now)
            case SetBalance():
                return self._set(user, command, now)
            case Refund():
                return self._refund(user, sequence, command, refunds, now)
            case Settle():
                return None

    def _consume(self, user: User, command: Consume, now: int, catalogue: Catalogue) -> Line:
        feature = next(
            (one for one in catalogue.features if one.feature_id == command.feature), None
        )
        if feature is None:
            raise Rejection("UNKNOWN_FEATURE")
        if command.quantity > 1 and feature.access_us:
            raise Rejection("INVALID_FIELD")
        cost = feature.cost * command.quantity
        if command.max_cost is not None and command.max_cost < cost:
            raise Rejection("PRICE_CHANGED")
        there = user.spendable(now)
        line = Line("CONSUME", 0, now, command, cost=cost, quantity=command.quantity)
        if len(there) < cost:
            if user.recent_denials(now) >= self.max_denials:
                raise Rejection("INSUFFICIENT_TOKENS")
            line.denied = True
            line.available = len(there)
            return line
        line.amount = -cost
        line.moved = there[:cost]
        for token in line.moved:
            user.tokens.remove(token)
        if feature.access_us and cost and command.event_id:
            line.access_until = now + feature.access_us
        return line

    def _top_up(self, user: User, sequence: int, command: TopUp, now: int) -> Line:
        expires: float = FOREVER
        if command.expire_time_us is not None:
            expires = command.expire_time_us
            if expires <= now:
                raise Rejection("INVALID_FIELD")
        if command.lifetime_us is not None:
            expires = now + command.lifetime_us
        lot = 0
        if expires < FOREVER:
            open_lots = user.lots(now)
            joined = sorted(one.lot for one in open_lots if one.expires == expires)
            if not joined and len(open_lots) >= self.max_grants:
                raise Rejection("TOO_MANY_GRANTS")
            lot = joined[0] if joined else sequence
        new = [Token(lot, expires)] * command.amount
        user.tokens = user.tokens + new
        return Line("TOP_UP", command.amount, now, command, moved=new)

    def _set(self, user: User, command: SetBalance, now: int) -> Line:
        there = user.spendable(now)
        assert len(there) == len(user.tokens)
        change = command.balance - len(there)
        moved = [Token()] * change if change > 0 else there[:-change]
        if change > 0:
            user.tokens = user.tokens + moved
        else:
            for token in moved:
                user.tokens.remove(token)
        return Line("ADJUSTMENT", change, now, command, moved=moved)

    def _refund(
        self, user: User, sequence: int, command: Refund, refunds: int | None, now: int
    ) -> Line:
        if refunds is None:
            raise Rejection("TRANSACTION_NOT_FOUND")
        charge = user.line(refunds)
        if charge.kind != "CONSUME" or charge.denied or not charge.cost:
            raise Rejection("NOT_REFUNDABLE")
        rest = charge.cost - charge.back
        if not rest and command.amount in (0, charge.cost):
            newest = max(n for n, one in enumerate(user.history, 1) if one.refunds == refunds)
            raise AnswerError(newest)
        if command.amount > rest:
            raise Rejection("REFUND_EXCEEDS_CHARGE")
        amount = command.amount or rest
        open_before = user.lots(now)
        targets = set(open_before)
        moved: list[Token] = []
        for token in charge.moved[rest - amount : rest][::-1]:
            target = token
            if token.lot and token.expires <= now:
                expires = now + self.grace
                same = sorted(one.lot for one in targets if one.expires == expires)
                before = [one for one in same if one != sequence]
                target = Token(before[0] if before else sequence, expires)
            if target.lot and target not in targets:
                if len(targets) < self.max_grants:
                    targets.add(target)
                else:
                    later = [one for one in open_before if one.expires >= target.expires]
                    target = min(later, key=lambda one: one.order) if later else Token()
            moved.append(target)
        user.tokens = user.tokens + moved
        return Line("REFUND", amount, now, command, moved=moved, refunds=refunds)

    def _bind(self, user: User, command: Command, line: Line, sequence: int) -> None:
        if command.idempotency_key:
            user.keys[command.idempotency_key] = sequence
        if line.access_until:
            assert isinstance(command, Consume)
            user.windows[command.feature, command.event_id] = sequence
        if line.refunds:
            user.line(line.refunds).back += line.amount


class Rejection(Exception):  # noqa: N818  # it is no error of the model
    """The command is rejected."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AnswerError(Exception):
    """An earlier transaction is the answer."""

    def __init__(self, sequence: int) -> None:
        super().__init__(sequence)
        self.sequence = sequence


def _essence(command: Command) -> tuple[object, ...]:
    """What is compared when a key is used again."""
    match command:
        case Consume():
            return ("consume", command.feature, command.event_id, command.quantity)
        case TopUp():
            expiry = (command.expire_time_us, command.lifetime_us)
            return ("top up", command.amount, *expiry, command.reason)
        case SetBalance():
            return ("set", command.balance, command.reason)
    return (type(command),)


def same_moves(found: Moved, wanted: Moved, *, in_order: bool) -> bool:
    """Whether two descriptions of moved tokens agree. Where tokens are put, the order says nothing."""
    if in_order:
        return found == wanted

    def total(moves: Moved) -> Counter[tuple[int, int]]:
        summed: Counter[tuple[int, int]] = Counter()
        for lot, amount, expires in moves:
            summed[lot, expires] += amount
        return summed

    return total(found) == total(wanted)


AnyCommand = CallerCommand | Settle
