"""Each row of the error table, as a caller sees it."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from support.rpc import Api, fails, raw

LIMIT = 2**53 - 1


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        ("CheckAccess", {"feature": "headline_pick"}, "user_id"),
        ("CheckAccess", {"user_id": "ada"}, "feature"),
        ("CheckAccess", {"user_id": "a" * 129, "feature": "headline_pick"}, "user_id"),
        ("CheckAccess", {"user_id": "ü" * 65, "feature": "headline_pick"}, "user_id"),
        ("BatchCheckAccess", {"user_id": "a b"}, "user_id"),
        ("BatchCheckAccess", {"user_id": "ada", "features": ["headline_pick", ""]}, "feature"),
        ("BatchCheckAccess", {"user_id": "ada", "features": ["x"] * 1001}, "features"),
        ("Consume", {"user_id": "a\u00a0b", "feature": "headline_pick"}, "user_id"),
        ("Consume", {"user_id": "ada\n", "feature": "headline_pick"}, "user_id"),
        ("Consume", {"user_id": "ada", "feature": "\u200b"}, "feature"),
        ("Consume", {"user_id": "ada", "feature": "headline_pick", "event_id": " "}, "event_id"),
        (
            "Consume",
            {"user_id": "ada", "feature": "headline_pick", "idempotency_key": "k" * 256},
            "idempotency_key",
        ),
        ("BatchConsume", {}, "requests"),
        ("Refund", {"user_id": "ada"}, "transaction_id"),
        ("Refund", {"user_id": "ada", "transaction_id": "1-x", "amount": -1}, "amount"),
        ("TopUp", {"user_id": "ada"}, "amount"),
        ("TopUp", {"user_id": "ada", "amount": -5}, "amount"),
        ("TopUp", {"user_id": "ada", "amount": 10**12 + 1}, "amount"),
        ("TopUp", {"user_id": "ada", "amount": 1, "reason": "r" * 501}, "reason"),
        ("TopUp", {"user_id": "ada", "amount": 1, "reason": "a\x00b"}, "reason"),
        ("SetBalance", {"user_id": "ada", "balance": -1}, "balance"),
        ("SetBalance", {"user_id": "ada", "balance": LIMIT + 1}, "balance"),
        ("GetAccount", {}, "user_id"),
        ("GetTransaction", {"user_id": "ada"}, "transaction_id"),
        ("ListTransactions", {"user_id": "ada", "page_size": -1}, "page_size"),
        ("ListTransactions", {"user_id": "ada", "page_size": 1001}, "page_size"),
        ("ListTransactions", {"user_id": "ada", "page_token": "nonsense"}, "page_token"),
        ("ListTransactions", {"user_id": "ada", "kind": 9}, "kind"),
        ("ListTransactions", {"user_id": "ada", "status": 9}, "status"),
    ],
)
async def test_a_malformed_field_is_named(
    api: Api, rpc: str, fields: dict[str, Any], field: str
) -> None:
    failure = await fails(getattr(api, rpc)(**fields))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.reason == "INVALID_FIELD"
    assert failure.metadata == {"field": field}
    (bad_request,) = failure.details
    assert isinstance(bad_request, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad_request.field_violations] == [field]
    assert field in failure.message


async def test_a_message_that_cannot_be_read_is_an_invalid_argument(api: Api) -> None:
    """The text of the parse error stays inside."""
    call = raw(api.channel, "/entitlements.v1.EntitlementService/Consume")
    failure = await fails(call(b"\xff\xff\xff"))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.metadata == {"field": "request"}
    assert failure.message == "The field 'request' cannot be parsed."


@pytest.mark.parametrize(
    ("rpc", "fields"),
    [
        ("CheckAccess", {"feature": "crystal_ball"}),
        ("BatchCheckAccess", {"features": ["headline_pick", "crystal_ball"]}),
        ("Consume", {"feature": "crystal_ball"}),
    ],
)
async def test_a_feature_outside_the_catalogue_is_not_found(
    api: Api, rpc: str, fields: dict[str, Any]
) -> None:
    failure = await fails(getattr(api, rpc)(user_id="ada", **fields))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.reason == "UNKNOWN_FEATURE"
    assert failure.metadata == {"feature": "crystal_ball"}
    assert await api.history("ada") == []


@pytest.mark.parametrize("rpc", ["Refund", "GetTransaction"])
@pytest.mark.parametrize("transaction_id", ["nonsense", "1-", "-1-x", "1-aaaaaaaaaaaaaaaa", "²-x"])
async def test_a_transaction_that_the_user_does_not_have_is_not_found(
    api: Api, rpc: str, transaction_id: str
) -> None:
    await api.TopUp(user_id="ada", amount=5)
    failure = await fails(getattr(api, rpc)(user_id="ada", transaction_id=transaction_id))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.reason == "TRANSACTION_NOT_FOUND"
    assert failure.metadata == {"user_id": "ada", "transaction_id": transaction_id}


async def test_a_transaction_of_another_user_is_not_found(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=5)
    await api.TopUp(user_id="ben", amount=5)
    charge = (await api.Consume(user_id="ada", feature="full_distribution")).transaction
    await api.Consume(user_id="ben", feature="full_distribution")
    for rpc in (api.Refund, api.GetTransaction):
        failure = await fails(rpc(user_id="ben", transaction_id=charge.transaction_id))
        assert failure.reason == "TRANSACTION_NOT_FOUND"
    assert await api.balance("ben") == 3


async def test_a_balance_that_is_too_small_reports_what_is_required_and_available(api: Api) -> None:
    failure = await fails(api.Consume(user_id="ada", feature="full_distribution"))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.reason == "INSUFFICIENT_TOKENS"
    (denied,) = await api.history("ada")
    assert failure.metadata == {
        "user_id": "ada",
        "feature": "full_distribution",
        "required": "2",
        "available": "0",
        "recorded": "true",
        "transaction_id": denied.transaction_id,
    }


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        ("Consume", {"feature": "scenario_extremes", "event_id": "e-1"}, "feature"),
        ("Consume", {"feature": "full_distribution", "event_id": "e-2"}, "event_id"),
        ("TopUp", {"amount": 2}, "kind"),
        ("SetBalance", {"balance": 8}, "kind"),
        ("Refund", {"transaction_id": "2-x"}, "kind"),
    ],
)
async def test_a_key_used_with_another_request_names_the_field_that_differs(
    api: Api, rpc: str, fields: dict[str, Any], field: str
) -> None:
    await api.TopUp(user_id="ada", amount=10)
    charge = await api.Consume(
        user_id="ada", feature="full_distribution", event_id="e-1", idempotency_key="k-1"
    )
    failure = await fails(getattr(api, rpc)(user_id="ada", idempotency_key="k-1", **fields))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert failure.reason == "IDEMPOTENCY_KEY_REUSED"
    assert failure.metadata == {
        "idempotency_key": "k-1",
        "field": field,
        "transaction_id": charge.transaction.transaction_id,
    }
    assert await api.balance("ada") == 8


async def test_a_top_up_a_denied_charge_and_a_free_charge_are_not_refundable(api: Api) -> None:
    top_up = (await api.TopUp(user_id="ada", amount=1)).transaction.transaction_id
    free = (await api.Consume(user_id="ada", feature="headline_pick")).transaction.transaction_id
    denied = await fails(api.Consume(user_id="ada", feature="full_distribution"))
    for transaction_id in (top_up, free, denied.metadata["transaction_id"]):
        failure = await fails(api.Refund(user_id="ada", transaction_id=transaction_id))
        assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
        assert failure.reason == "NOT_REFUNDABLE"
        assert failure.metadata == {"transaction_id": transaction_id}


async def test_a_refund_larger_than_what_remains_reports_what_remains(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    charge = (await api.Consume(user_id="ada", feature="deep_dive_educational")).transaction
    await api.Refund(user_id="ada", transaction_id=charge.transaction_id, amount=3)
    failure = await fails(api.Refund(user_id="ada", transaction_id=charge.transaction_id, amount=3))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.reason == "REFUND_EXCEEDS_CHARGE"
    assert failure.metadata == {
        "transaction_id": charge.transaction_id,
        "amount": "3",
        "remaining": "2",
    }


async def test_a_balance_beyond_its_limit_is_rejected(api: Api) -> None:
    await api.SetBalance(user_id="ada", balance=LIMIT)
    failure = await fails(api.TopUp(user_id="ada", amount=1))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.reason == "BALANCE_LIMIT_EXCEEDED"
    assert failure.metadata == {"balance": str(LIMIT), "amount": "1", "limit": str(LIMIT)}
    assert await api.balance("ada") == LIMIT
