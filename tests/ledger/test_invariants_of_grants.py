"""Each invariant of grants and windows finds what contradicts it, and nothing in a history that is right."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from entitlements_server.ledger.catalogue import Catalogue, Feature
from entitlements_server.ledger.commands import Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.limits import SECOND_US
from entitlements_server.ledger.settlement import DELAY_US
from entitlements_server.ledger.values import Draw, Kind, Status, Transaction
from support.ledger import NOW_US, Ledger

MINUTE_US = 60 * SECOND_US
CATALOGUE = Catalogue((Feature(feature_id="report", cost=3, title="Report", access_us=MINUTE_US),))


def a_history() -> list[Transaction]:
    """Top-ups that expire and one that does not, a charge over two of them, part of it given back, an expiry,
    a denial, a window that was opened again, and a balance that was set."""
    ledger = Ledger()

    def do(command: Any, seconds: float) -> None:
        ledger.do(command, now_us=NOW_US + int(seconds * SECOND_US), catalogue=CATALOGUE)

    do(TopUp(user_id="ada", amount=2, lifetime_us=MINUTE_US), 0)
    do(TopUp(user_id="ada", amount=9, expire_time_us=NOW_US + 2 * MINUTE_US), 1)
    do(TopUp(user_id="ada", amount=1), 2)
    do(Consume(user_id="ada", feature="report", event_id="e-1"), 3)
    do(Refund(user_id="ada", transaction_id=ledger.history[3].transaction_id, amount=2), 4)
    do(Consume(user_id="ada", feature="report", event_id="e-1"), 100)
    do(Consume(user_id="ada", feature="report", event_id="e-2"), 121 + DELAY_US / SECOND_US)
    do(SetBalance(user_id="ada", balance=5), 200)
    return ledger.history


RIGHT = a_history()
TOP_UP, CHARGE = RIGHT[0], RIGHT[3]


def found(history: list[Transaction], parts: int = 1) -> Iterator[str]:
    account = Ledger().account()
    for part in range(parts):
        known = History(account, part=part, parts=parts)
        for one in history:
            for problem in known.add(one, encode_transaction(one)):
                yield f"{one.sequence}: {problem}"


def test_the_history_has_what_the_edits_are_about() -> None:
    assert [(one.kind, one.status) for one in RIGHT] == [
        (Kind.TOP_UP, Status.SUCCESS),
        (Kind.TOP_UP, Status.SUCCESS),
        (Kind.TOP_UP, Status.SUCCESS),
        (Kind.CONSUME, Status.SUCCESS),
        (Kind.REFUND, Status.SUCCESS),
        (Kind.CONSUME, Status.SUCCESS),
        (Kind.EXPIRE, Status.SUCCESS),
        (Kind.CONSUME, Status.DENIED),
        (Kind.ADJUSTMENT, Status.SUCCESS),
    ]
    assert [one.amount for one in CHARGE.draws] == [2, 1]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_nothing_is_found_in_what_the_rules_recorded(parts: int) -> None:
    assert list(found(RIGHT, parts)) == []


FIRST = TOP_UP.draws[0]
EDITS: dict[str, tuple[int, dict[str, Any], str]] = {
    "a draw of more than the grant has": (
        4,
        {"draws": (replace(FIRST, amount=3),)},
        "does not have the 3 tokens",
    ),
    "a draw of a grant that is not there": (
        4,
        {"draws": (Draw("99-x", 3, FIRST.expire_time_us),)},
        "does not have the 3 tokens",
    ),
    "draws that do not add up": (4, {"draws": CHARGE.draws[:1]}, "add up to 2"),
    "a draw that lasts longer than its grant": (
        4,
        {"draws": (replace(CHARGE.draws[0], expire_time_us=2**50), CHARGE.draws[1])},
        "expires at another time",
    ),
    "two draws of one grant": (4, {"draws": (replace(FIRST, amount=1),) * 3}, "same grant"),
    "a draw of nothing": (
        4,
        {"draws": (*CHARGE.draws, Draw("", 0, 0))},
        "malformed",
    ),
    "a charge of the pool that the pool does not have": (4, {"draws": ()}, "never expire than"),
    "a spent token that had expired": (
        6,
        {"draws": (replace(FIRST, amount=1), replace(CHARGE.draws[1], amount=2))},
        "has expired",
    ),
    "an expiry before its time": (7, {"create_time_us": NOW_US + MINUTE_US}, "before its time"),
    "an expiry of nothing in particular": (7, {"draws": ()}, "which grants have expired"),
    "an expiry that is a key's": (7, {"idempotency_key": "k"}, "cannot change the balance"),
    "an expiry that was not asked for": (1, {"lifetime_us": 2 * MINUTE_US}, "another time than"),
    "an expiry of what never expires": (3, {"lifetime_us": MINUTE_US}, "another time than"),
    "two expiries": (2, {"lifetime_us": MINUTE_US}, "two expiries"),
    "a charge with an expiry": (4, {"expire_time_us": 5}, "only a top-up"),
    "a window of a top-up": (3, {"access_until_us": 2**50}, "access window, which only"),
    "a window without an event": (4, {"event_id": ""}, "access window, which only"),
    "a window that ended before it began": (4, {"access_until_us": 5}, "access window, which only"),
    "a quantity that does not divide the cost": (4, {"quantity": 2}, "none of 2 uses"),
    "a quantity of a top-up": (3, {"quantity": 2}, "only a charge may have one"),
    "a success with tokens that were unavailable": (4, {"unavailable": 1}, "only a denied charge"),
    "a denial of what could be paid": (8, {"cost": 1}, "cannot change the balance"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_found(edit: str) -> None:
    sequence, changes, problem = EDITS[edit]
    history = list(RIGHT)
    history[sequence - 1] = replace(history[sequence - 1], **changes)
    assert any(one.startswith(f"{sequence}: ") and problem in one for one in found(history)), list(
        found(history)
    )


@pytest.mark.parametrize("parts", [1, 3])
def test_a_window_that_was_opened_while_it_was_open_is_found(parts: int) -> None:
    history = list(RIGHT)
    longer = NOW_US + 1000 * SECOND_US
    history[3] = replace(history[3], access_until_us=longer)
    assert any("window was open since transaction 4" in one for one in found(history, parts))


def test_tokens_of_the_pool_that_come_back_to_a_grant_are_found() -> None:
    ledger = Ledger()
    ledger.record(TopUp(user_id="ada", amount=4))
    charge = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    refund = ledger.record(Refund(user_id="ada", transaction_id=charge.transaction_id))
    wrong = replace(refund, draws=(Draw("9-x", 2, NOW_US + MINUTE_US),))
    assert any("pool" in one for one in found([*ledger.history[:2], wrong]))
