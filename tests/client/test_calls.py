"""Every call of both clients, against a real service."""

from datetime import UTC

import pytest

from entitlements import (
    Access,
    AccessDeniedError,
    ConsumeRequest,
    FeatureTier,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotRefundableError,
    RefundExceedsChargeError,
    Transaction,
    TransactionKind,
    TransactionNotFoundError,
    TransactionStatus,
    UnknownFeatureError,
)
from support.asking import Asking

FULL = FeatureTier.FULL_DISTRIBUTION


async def test_check_access_reports_what_is_required_and_available(ask: Asking, user: str) -> None:
    """A user with 1 token may not have a feature of 2."""
    await ask("top_up", user, 1)
    access = await ask("check_access", user, FULL)
    assert access == Access(feature=FULL, allowed=False, required=2, available=1)


async def test_batch_check_access_asks_for_the_catalogue_when_no_feature_is_named(
    ask: Asking, user: str
) -> None:
    """The five features come in the order of the catalogue, named ones in their own."""
    assert [each.feature for each in await ask("batch_check_access", user)] == list(FeatureTier)
    named = await ask("batch_check_access", user, [FULL, "headline_pick"])
    assert [(each.feature, each.allowed) for each in named] == [
        (FULL, False),
        ("headline_pick", True),
    ]


async def test_check_feature_access_is_a_plain_yes_or_no(ask: Asking, user: str) -> None:
    """Free is yes for a user never seen; a feature that costs is no."""
    assert await ask("check_feature_access", user, FeatureTier.HEADLINE_PICK) is True
    assert await ask("check_feature_access", user, FULL) is False


async def test_consume_charges_and_answers_with_the_transaction(ask: Asking, user: str) -> None:
    """Every value of the transaction arrives, times in UTC, and it can be read again."""
    await ask("top_up", user, 10, reason="welcome")
    tx = await ask("consume", user, FULL, event_id="final", idempotency_key="k-1")
    assert (tx.kind, tx.status, tx.sequence) == ("CONSUME", TransactionStatus.SUCCESS, 2)
    assert (tx.cost, tx.amount, tx.balance_before, tx.balance_after) == (2, -2, 10, 8)
    assert (tx.user_id, tx.feature, tx.event_id, tx.idempotency_key) == (user, FULL, "final", "k-1")
    assert tx.create_time.tzinfo is UTC
    assert not tx.replayed
    assert await ask("get_transaction", user, tx.transaction_id) == tx


async def test_consume_under_the_same_key_is_one_charge(ask: Asking, user: str) -> None:
    """The second answer is the first transaction, marked as replayed."""
    await ask("top_up", user, 10)
    first = await ask("consume", user, FULL, idempotency_key="k")
    again = await ask("consume", user, FULL, idempotency_key="k")
    assert (again, again.replayed) == (first, True)
    assert (await ask("get_account", user)).balance == 8


async def test_consume_denied_raises_with_everything_a_caller_needs(ask: Asking, user: str) -> None:
    """The error has required, available, feature and the recorded attempt."""
    await ask("top_up", user, 1)
    with pytest.raises(AccessDeniedError) as denied:
        await ask("consume", user, FULL)
    error = denied.value
    assert (error.required, error.available, error.feature) == (2, 1, FULL)
    recorded = await ask("get_transaction", user, error.transaction_id)
    assert (recorded.status, recorded.amount) == (TransactionStatus.DENIED, 0)


async def test_batch_consume_answers_each_request_in_its_place(ask: Asking, user: str) -> None:
    """A denied request is an error value among transactions, and does not stop the others."""
    await ask("top_up", user, 5)
    results = await ask(
        "batch_consume",
        [
            ConsumeRequest(user, FeatureTier.SCENARIO_EXTREMES, idempotency_key="a"),
            ConsumeRequest(user, FeatureTier.DEEP_DIVE_EDUCATIONAL, idempotency_key="b"),
            ConsumeRequest(user, FULL, "final", "c"),
            ConsumeRequest(user, "crystal_ball"),
        ],
    )
    assert [type(each) for each in results] == [
        Transaction,
        AccessDeniedError,
        Transaction,
        UnknownFeatureError,
    ]
    assert (results[1].available, results[1].idempotency_key) == (2, "b")
    assert (results[2].balance_after, results[2].event_id) == (0, "final")
    assert await ask("batch_consume", []) == []


async def test_refund_gives_back_in_parts_and_never_more_than_the_charge(
    ask: Asking, user: str
) -> None:
    """One of two tokens, then too many, then the rest."""
    await ask("top_up", user, 2)
    tx = await ask("consume", user, FULL)
    part = await ask("refund", user, tx.transaction_id, 1, reason="half of it")
    assert (part.amount, part.reason) == (1, "half of it")
    assert part.refunded_transaction_id == tx.transaction_id
    with pytest.raises(RefundExceedsChargeError) as refused:
        await ask("refund", user, tx.transaction_id, 2)
    assert refused.value.remaining == 1
    assert (await ask("refund", user, tx.transaction_id)).balance_after == 2


async def test_refund_of_what_is_no_charge_is_rejected(ask: Asking, user: str) -> None:
    """A free use cannot be refunded, and an unknown transaction cannot be found."""
    free = await ask("consume", user, FeatureTier.HEADLINE_PICK)
    with pytest.raises(NotRefundableError) as refused:
        await ask("refund", user, free.transaction_id)
    assert refused.value.transaction_id == free.transaction_id
    with pytest.raises(TransactionNotFoundError) as missing:
        await ask("refund", user, "nope")
    assert missing.value.transaction_id == "nope"


async def test_set_balance_records_the_difference(ask: Asking, user: str) -> None:
    """From 10 to 4 is an adjustment of -6."""
    await ask("top_up", user, 10)
    tx = await ask("set_balance", user, 4, reason="audit")
    assert (tx.kind, tx.amount, tx.balance_after) == (TransactionKind.ADJUSTMENT, -6, 4)


async def test_account_of_a_stranger_reads_as_zero_without_times(ask: Asking, user: str) -> None:
    """Nothing was ever written, so there is no time either."""
    account = await ask("get_account", user)
    assert (account.balance, account.transaction_count) == (0, 0)
    assert account.create_time is None
    await ask("top_up", user, 3)
    account = await ask("get_account", user)
    assert (account.balance, account.transaction_count) == (3, 1)
    assert account.create_time == account.update_time


async def test_transactions_iterate_over_all_pages_newest_first(ask: Asking, user: str) -> None:
    """Seven transactions in pages of three, and the filters."""
    await ask("top_up", user, 100)
    for _ in range(5):
        await ask("consume", user, FULL)
    with pytest.raises(UnknownFeatureError):
        await ask("consume", user, "crystal_ball")
    await ask("set_balance", user, 0)
    history = await ask.history(user, page_size=3)
    assert [each.sequence for each in history] == [7, 6, 5, 4, 3, 2, 1]
    charges = await ask.history(user, page_size=2, kind=TransactionKind.CONSUME, feature=FULL)
    assert len(charges) == 5
    assert await ask.history(user, status=TransactionStatus.DENIED) == []
    with pytest.raises(ValueError, match="UNKNOWN cannot be a filter"):
        await ask.history(user, kind=TransactionKind.UNKNOWN)


async def test_features_reads_the_catalogue(ask: Asking) -> None:
    """The five features with their costs."""
    features = await ask("list_features")
    assert {each.feature_id: each.cost for each in features} == dict(
        zip(FeatureTier, (0, 2, 3, 3, 5), strict=True)
    )
    assert features[1].use_case == "Depth analysis"


async def test_every_write_has_a_key_of_its_own(ask: Asking, user: str) -> None:
    """Without a key of the caller each write is recorded under a new one."""
    await ask("top_up", user, 10)
    await ask("top_up", user, 10)
    tx = await ask("consume", user, FULL)
    await ask("refund", user, tx.transaction_id, 1)
    await ask("set_balance", user, 0)
    keys = {each.idempotency_key for each in await ask.history(user)}
    assert len(keys) == 5
    assert "" not in keys


async def test_errors_name_what_is_wrong(ask: Asking, user: str) -> None:
    """An invalid field, an unknown feature and a reused key each have their own error."""
    with pytest.raises(InvalidRequestError) as invalid:
        await ask("get_account", "no spaces")
    assert (invalid.value.field, invalid.value.idempotency_key) == ("user_id", "")
    with pytest.raises(UnknownFeatureError) as unknown:
        await ask("check_access", user, "crystal_ball")
    assert unknown.value.feature == "crystal_ball"
    top_up = await ask("top_up", user, 1, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReusedError) as reused:
        await ask("top_up", user, 2, idempotency_key="k")
    assert (reused.value.field, reused.value.idempotency_key) == ("amount", "k")
    assert reused.value.transaction_id == top_up.transaction_id


@pytest.mark.parametrize(
    ("method", "arguments", "named"),
    [
        ("consume", (42, FULL), "user_id must be str, not int"),
        ("check_access", ("ada", 5), "feature must be str, not int"),
        ("batch_check_access", ("ada", [5]), "features must be a sequence of str, not tuple"),
        ("batch_check_access", ("ada", 5), "features must be a sequence of str, not int"),
        ("top_up", ("ada", "9"), "amount must be int, not str"),
        ("set_balance", ("ada", 1.5), "balance must be int, not float"),
        ("refund", ("ada", 7), "transaction_id must be str, not int"),
        ("get_account", (42,), "user_id must be str, not int"),
        ("get_transaction", ("ada", 42), "transaction_id must be str, not int"),
        ("batch_consume", ([ConsumeRequest("ada", 5)],), r"requests\[0\].feature must be str"),  # type: ignore[arg-type]
    ],
)
async def test_a_value_of_another_type_is_named_with_its_field(
    ask: Asking, method: str, arguments: tuple[object, ...], named: str
) -> None:
    with pytest.raises(TypeError, match=named):
        await ask(method, *arguments)


async def test_the_gate_names_the_field_as_well(ask: Asking) -> None:
    with pytest.raises(TypeError, match="user_id must be str, not int"):
        await ask("require_tokens", user_id=42, feature=FULL)
    with pytest.raises(TypeError, match="page_size must be int, not str"):
        await ask.history("ada", page_size="9")


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("top_up", ("ada", 2**63), "amount"),
        ("consume", ("ada\ud800", FULL), "user_id"),
        ("batch_consume", ([ConsumeRequest("ada", "\udcff")],), "requests[0].feature"),
    ],
)
async def test_a_value_that_cannot_be_sent_is_an_invalid_field(
    ask: Asking, method: str, arguments: tuple[object, ...], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as invalid:
        await ask(method, *arguments)
    assert (invalid.value.field, invalid.value.reason) == (field, "INVALID_FIELD")
