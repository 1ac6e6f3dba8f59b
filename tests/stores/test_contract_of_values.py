"""Every store keeps every value as it is."""

import pytest

from entitlements_server.ledger.commands import Consume, SetBalance, TopUp
from entitlements_server.ledger.limits import MAX_AMOUNT, MAX_BALANCE
from entitlements_server.stores.interface import Store
from support.ledger import (
    all_accounts,
    commit,
    figures,
    record,
    replayed,
    top_ups,
    whole_history,
)

UNUSUAL_IDS = [
    *("123", "0123", "-1", "1e5", "0x10", "null", "true", "NaN", "''", '"', "\\", "\\u0041"),
    *("{ada}", "{}", "[1]", '{"a":1}', "a:b", "a|b", "*", "%", "_", "?", "$1", "--", ";"),
    *("é", "e\u0301", "語", "🦉", "A", "a", "x" * 128, "語" * 42, "🦉" * 32),
]


async def test_ids_are_kept_apart_and_as_they_are_whatever_they_look_like(store: Store) -> None:
    for number, unusual in enumerate(UNUSUAL_IDS, start=1):
        await record(
            store,
            TopUp(user_id=unusual, amount=number, idempotency_key=unusual, caller=unusual),
            Consume(
                user_id=unusual, feature="headline_pick", event_id=unusual, idempotency_key="k"
            ),
        )
    accounts = {account.user_id: account for account in await all_accounts(store, 5)}
    assert sorted(accounts) == sorted(UNUSUAL_IDS)
    for number, unusual in enumerate(UNUSUAL_IDS, start=1):
        assert accounts[unusual].balance == number
        assert await store.account(unusual) == accounts[unusual]
        first = await store.transaction(unusual, 1)
        second = await store.transaction(unusual, 2)
        assert first is not None
        assert second is not None
        assert (first.user_id, first.idempotency_key, first.caller) == (unusual,) * 3
        assert second.event_id == unusual
        command = TopUp(user_id=unusual, amount=number, idempotency_key=unusual)
        assert [replayed(one) for one in await commit(store, command)] == [first]


@pytest.mark.parametrize(
    "reason", ['{"a": [1, "b"]}', "it's", '"', "\\", "\\n", "null", "12", "1.50", "語🦉" * 71, " "]
)
async def test_a_reason_is_kept_to_the_letter(store: Store, reason: str) -> None:
    command = TopUp(user_id="ada", amount=1, reason=reason, idempotency_key="k-1")
    made = (await record(store, command, *top_ups(12, "bob")))[0]
    assert made.reason == reason
    assert await store.transaction("ada", 1) == made
    assert [replayed(one) for one in await commit(store, command)] == [made]


async def test_the_largest_values_are_exact(store: Store) -> None:
    latest = 253_402_300_799_999_999  # the last microsecond of the year 9999
    made = await record(
        store,
        SetBalance(user_id="ada", balance=MAX_BALANCE),
        SetBalance(user_id="ada", balance=0, idempotency_key="k" * 255),
        SetBalance(user_id="ada", balance=MAX_BALANCE - MAX_AMOUNT),
        TopUp(user_id="ada", amount=MAX_AMOUNT, reason="é" * 250),
        now_us=latest,
    )
    await record(store, *top_ups(12, "bob"))
    assert [one.amount for one in made] == [
        2**53 - 1,
        -(2**53 - 1),
        2**53 - 1 - 10**12,
        10**12,
    ]
    assert await whole_history(store, "ada") == made
    assert figures(await store.account("ada")) == ("ada", 2**53 - 1, 4, latest, latest)
