"""What a history must show by itself: where each token came from and went, and one charge a window.

The oracle says which tokens a request takes. This does not ask how they are chosen: it adds them up.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from faults.records import Line

CONSUME, REFUND, EXPIRE = 1, 2, 5


def problems(history: Sequence[Line]) -> Iterator[str]:
    """Yield every violation in a user's history, oldest first, as a sentence."""
    yield from _tokens(history)
    yield from _windows(history)


def _tokens(history: Sequence[Line]) -> Iterator[str]:
    """Of each grant: put in = spent + expired + left, and nothing is moved once it has lapsed."""
    left: Counter[str] = Counter()
    for line in history:
        if line.draws and sum(one.amount for one in line.draws) != abs(line.amount):
            yield f"its draws do not add up: {line}"
        for draw in line.draws:
            if not draw.grant:
                continue
            left[draw.grant] += draw.amount if line.amount > 0 else -draw.amount
            if left[draw.grant] < 0:
                yield f"takes what the grant {draw.grant} does not have: {line}"
            lapsed = draw.expire_time_us <= line.time_us
            if lapsed and line.kind != EXPIRE:
                yield f"moves tokens of the grant {draw.grant}, which has lapsed: {line}"
            if not lapsed and line.kind == EXPIRE:
                yield f"ends the grant {draw.grant} before its time: {line}"


def _windows(history: Sequence[Line]) -> Iterator[str]:
    """A feature and event are charged again only once access has ended or all was given back."""
    opened: dict[tuple[str, str], Line] = {}
    refunded: Counter[str] = Counter()
    for line in history:
        refunded[line.refunded_transaction_id] += line.amount if line.kind == REFUND else 0
        if line.kind != CONSUME or not line.access_until_us:
            continue
        before = opened.get((line.feature, line.event_id))
        opened[line.feature, line.event_id] = line
        if (
            before is not None
            and line.time_us < before.access_until_us
            and refunded[before.transaction_id] < before.cost
        ):
            yield f"charged again in the window of {before.transaction_id}: {line}"
