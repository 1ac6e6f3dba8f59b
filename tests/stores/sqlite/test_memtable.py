"""What is not flushed yet, and how it is cut into batches."""

from entitlements_server.ledger.commands import Consume, Refund, TopUp
from entitlements_server.ledger.state import State
from entitlements_server.stores.sqlite.memtable import POSITIONS_A_GROUP, Segment
from support.ledger import Ledger


def segment_of(ledger: Ledger) -> Segment:
    """All of a ledger, ready to be flushed."""
    segment = Segment()
    state = State()
    segment.add([state.apply(transaction) for transaction in ledger.history], state, 1)
    segment.sort()
    return segment


def test_batches_hold_every_transaction_once_in_the_order_of_users_and_histories() -> None:
    ledger = Ledger()
    for place in range(20):
        ledger.do(TopUp(user_id=f"u-{place * 7 % 5}", amount=1))
    segment = segment_of(ledger)
    batches = []
    while not segment.is_drained:
        batches.append(segment.take_batch(6))
    assert [len(one) for one in batches] == [6, 6, 6, 2]
    taken = [entry.transaction for batch in batches for _, entry in batch]
    assert taken == sorted(ledger.history, key=lambda one: (one.user_id, one.sequence))
    assert sorted(position for batch in batches for position, _ in batch) == list(
        range(POSITIONS_A_GROUP, POSITIONS_A_GROUP + 20)
    )


def test_a_batch_is_no_larger_than_asked_for_a_user_with_refunds_either() -> None:
    """Each entry knows what was refunded by then, so a history can be flushed in parts."""
    ledger = Ledger()
    ledger.do(TopUp(user_id="ada", amount=100))
    charge = ledger.record(Consume(user_id="ada", feature="full_distribution"))
    for _ in range(2):
        ledger.do(Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    segment = segment_of(ledger)
    batches = [segment.take_batch(1) for _ in range(4)]
    assert [len(batch) for batch in batches] == [1, 1, 1, 1]
    assert segment.is_drained
    totals = [entry.refunded and entry.refunded.refunded for [(_, entry)] in batches]
    assert totals == [None, None, 1, 2]
