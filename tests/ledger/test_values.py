"""Transaction ids, and what follows from a transaction."""

import msgspec
import pytest

from entitlements_server.ledger.commands import Consume, TopUp
from entitlements_server.ledger.limits import MAX_BALANCE, MAX_ID_BYTES
from entitlements_server.ledger.values import Transaction, sequence_of
from support.ledger import Ledger


@pytest.fixture
def top_up() -> Transaction:
    return Ledger().record(TopUp(user_id="ada", amount=5, idempotency_key="k-1"))


def test_an_id_begins_with_the_sequence_and_fits_every_field_for_ids(top_up: Transaction) -> None:
    assert top_up.transaction_id.startswith("1-")
    far = msgspec.structs.replace(top_up, sequence=10**15 - 1)
    assert len(far.transaction_id) <= MAX_ID_BYTES
    assert sequence_of(far.transaction_id) == 10**15 - 1


def test_an_id_is_the_same_each_time_it_is_asked_for(top_up: Transaction) -> None:
    assert top_up.transaction_id == msgspec.structs.replace(top_up).transaction_id


@pytest.mark.parametrize("change", [{"user_id": "bob"}, {"sequence": 2}, {"create_time_us": 7}])
def test_another_user_place_or_time_is_another_id(
    top_up: Transaction, change: dict[str, int]
) -> None:
    other = msgspec.structs.replace(top_up, **change)
    assert other.transaction_id.partition("-")[2] != top_up.transaction_id.partition("-")[2]


@pytest.mark.parametrize(
    "text", ["", "1", "-", "1-", "-abc", "x-abc", "+1-a", "1.0-a", "²-a", "٣-a", "1" * 16 + "-a"]
)
def test_what_cannot_be_an_id_of_ours_names_no_place(text: str) -> None:
    assert sequence_of(text) is None


def test_the_balance_before_is_the_balance_after_less_the_amount(top_up: Transaction) -> None:
    assert (top_up.balance_before, top_up.amount, top_up.balance_after) == (0, 5, 5)


def test_a_success_binds_its_key_and_a_denial_or_no_key_binds_none(top_up: Transaction) -> None:
    ledger = Ledger()
    denied = ledger.record(
        Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
    )
    assert top_up.binds_key
    assert not denied.binds_key
    assert not ledger.record(TopUp(user_id="ada", amount=1)).binds_key


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 0},
        {"balance_after": -1, "amount": 0},
        {"balance_after": MAX_BALANCE + 1, "amount": 1},
        {"balance_after": 0, "amount": 1},
        {"balance_after": 0, "amount": -MAX_BALANCE - 1},
    ],
)
def test_a_transaction_that_cannot_be_cannot_be_built(
    top_up: Transaction, change: dict[str, int]
) -> None:
    with pytest.raises(AssertionError):
        msgspec.structs.replace(top_up, **change)
