"""The behaviours that the service exists for, each over a real channel."""

from entitlements.v1 import resources_pb2 as pb
from support.rpc import Api, fails


async def test_a_user_with_0_tokens_is_denied_a_feature_of_cost_2(api: Api) -> None:
    failure = await fails(api.Consume(user_id="ada", feature="full_distribution"))
    assert failure.reason == "INSUFFICIENT_TOKENS"
    assert await api.balance("ada") == 0


async def test_a_user_with_4_tokens_is_denied_a_feature_of_cost_5(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=4)
    failure = await fails(api.Consume(user_id="ada", feature="deep_dive_educational"))
    assert failure.metadata["required"] == "5"
    assert failure.metadata["available"] == "4"
    assert await api.balance("ada") == 4


async def test_a_denied_attempt_is_recorded_and_charges_nothing(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=1)
    failure = await fails(api.Consume(user_id="ada", feature="full_distribution", event_id="e-1"))
    newest = (await api.history("ada"))[0]
    assert newest.transaction_id == failure.metadata["transaction_id"]
    assert newest.status == pb.TRANSACTION_STATUS_DENIED
    assert (newest.cost, newest.amount) == (2, 0)
    assert (newest.balance_before, newest.balance_after) == (1, 1)


async def test_a_user_with_10_tokens_has_8_after_a_feature_of_cost_2(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    response = await api.Consume(user_id="ada", feature="full_distribution")
    assert response.transaction.balance_after == 8
    assert await api.balance("ada") == 8


async def test_10_tokens_go_to_8_to_5_to_2_and_then_a_cost_of_3_is_denied(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    balances = [
        (await api.Consume(user_id="ada", feature=feature)).transaction.balance_after
        for feature in ("full_distribution", "scenario_extremes", "comparative_analysis")
    ]
    assert balances == [8, 5, 2]
    failure = await fails(api.Consume(user_id="ada", feature="scenario_extremes"))
    assert failure.reason == "INSUFFICIENT_TOKENS"
    assert await api.balance("ada") == 2


async def test_the_same_key_gives_the_same_transaction_charged_and_recorded_once(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    request = {"user_id": "ada", "feature": "full_distribution", "idempotency_key": "k-1"}
    first = await api.Consume(**request)
    again = await api.Consume(**request)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.transaction == first.transaction
    assert await api.balance("ada") == 8
    assert len(await api.history("ada", kind=pb.TRANSACTION_KIND_CONSUME)) == 1


async def test_a_retry_succeeds_even_when_the_balance_has_dropped_to_zero(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=2)
    request = {"user_id": "ada", "feature": "full_distribution", "idempotency_key": "k-1"}
    first = await api.Consume(**request)
    again = await api.Consume(**request)
    assert again.transaction == first.transaction
    assert await api.balance("ada") == 0


async def test_different_keys_give_two_charges(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    first = await api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
    second = await api.Consume(user_id="ada", feature="full_distribution", idempotency_key="k-2")
    assert first.transaction.transaction_id != second.transaction.transaction_id
    assert await api.balance("ada") == 6


async def test_a_user_with_0_tokens_may_have_the_headline(api: Api) -> None:
    await api.SetBalance(user_id="ada", balance=0)
    assert (await api.CheckAccess(user_id="ada", feature="headline_pick")).access.allowed
    response = await api.Consume(user_id="ada", feature="headline_pick")
    assert response.transaction.status == pb.TRANSACTION_STATUS_SUCCESS
    assert response.transaction.amount == 0


async def test_the_headline_is_free_for_a_user_never_seen_too(api: Api) -> None:
    assert (await api.CheckAccess(user_id="new", feature="headline_pick")).access.allowed
    response = await api.Consume(user_id="new", feature="headline_pick")
    assert response.transaction.status == pb.TRANSACTION_STATUS_SUCCESS
    assert await api.balance("new") == 0


async def test_every_attempt_is_in_the_history_with_all_that_an_auditor_asks(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=3, reason="welcome")
    await api.Consume(
        user_id="ada", feature="full_distribution", event_id="final-7", idempotency_key="k-1"
    )
    await fails(api.Consume(user_id="ada", feature="full_distribution", event_id="final-8"))
    denied, charged, added = await api.history("ada")
    assert [one.sequence for one in (added, charged, denied)] == [1, 2, 3]
    assert added.kind == pb.TRANSACTION_KIND_TOP_UP
    assert added.reason == "welcome"
    assert (charged.user_id, charged.feature, charged.event_id) == (
        "ada",
        "full_distribution",
        "final-7",
    )
    assert (charged.cost, charged.amount) == (2, -2)
    assert (charged.balance_before, charged.balance_after) == (3, 1)
    assert charged.status == pb.TRANSACTION_STATUS_SUCCESS
    assert charged.idempotency_key == "k-1"
    assert denied.event_id == "final-8"
    assert denied.status == pb.TRANSACTION_STATUS_DENIED
    times = [one.create_time.ToMicroseconds() for one in (added, charged, denied)]
    assert times == sorted(times)
    assert times[0] > 0


async def test_a_refund_restores_the_balance(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    charge = (await api.Consume(user_id="ada", feature="full_distribution")).transaction
    refund = await api.Refund(user_id="ada", transaction_id=charge.transaction_id)
    assert refund.transaction.amount == 2
    assert refund.transaction.refunded_transaction_id == charge.transaction_id
    assert await api.balance("ada") == 10


async def test_a_second_refund_changes_nothing(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    charge = (await api.Consume(user_id="ada", feature="full_distribution")).transaction
    first = await api.Refund(user_id="ada", transaction_id=charge.transaction_id)
    second = await api.Refund(user_id="ada", transaction_id=charge.transaction_id)
    assert second.replayed
    assert second.transaction == first.transaction
    assert await api.balance("ada") == 10
    assert len(await api.history("ada")) == 3


async def test_check_access_changes_nothing(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=4)
    before = await api.GetAccount(user_id="ada")
    for _ in range(3):
        access = (await api.CheckAccess(user_id="ada", feature="deep_dive_educational")).access
        assert (access.allowed, access.required, access.available) == (False, 5, 4)
    assert await api.GetAccount(user_id="ada") == before


async def test_a_top_up_adds(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=4)
    response = await api.TopUp(user_id="ada", amount=3)
    assert (response.transaction.balance_before, response.transaction.balance_after) == (4, 7)
    assert await api.balance("ada") == 7


async def test_the_five_features_cost_0_2_3_3_and_5_tokens(api: Api) -> None:
    features = (await api.ListFeatures()).features
    assert {one.feature_id: one.cost for one in features} == {
        "headline_pick": 0,
        "full_distribution": 2,
        "scenario_extremes": 3,
        "comparative_analysis": 3,
        "deep_dive_educational": 5,
    }
