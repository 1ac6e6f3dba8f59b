"""What each RPC promises beyond the core behaviours."""

import asyncio

import grpc

from entitlements.v1 import entitlement_service_pb2 as messages
from entitlements.v1 import resources_pb2 as pb
from support.rpc import Api, fails, failure_of_status


async def test_batch_check_access_answers_for_the_whole_catalogue_when_none_is_named(
    api: Api,
) -> None:
    await api.TopUp(user_id="ada", amount=3)
    found = (await api.BatchCheckAccess(user_id="ada")).access
    assert [(one.feature, one.allowed) for one in found] == [
        ("headline_pick", True),
        ("full_distribution", True),
        ("scenario_extremes", True),
        ("comparative_analysis", True),
        ("deep_dive_educational", False),
    ]


async def test_batch_check_access_answers_in_the_order_of_the_request(api: Api) -> None:
    named = ["scenario_extremes", "headline_pick", "scenario_extremes"]
    found = (await api.BatchCheckAccess(user_id="ada", features=named)).access
    assert [one.feature for one in found] == named


async def test_batch_consume_runs_each_request_on_its_own_and_in_order(api: Api) -> None:
    """One that is denied, malformed or unknown does not stop those after it."""
    await api.TopUp(user_id="ada", amount=5)
    requests = [
        messages.ConsumeRequest(user_id="ada", feature="scenario_extremes", idempotency_key="k-1"),
        messages.ConsumeRequest(user_id="ada", feature="deep_dive_educational"),
        messages.ConsumeRequest(user_id="", feature="headline_pick"),
        messages.ConsumeRequest(user_id="ada", feature="crystal_ball"),
        messages.ConsumeRequest(user_id="ada", feature="scenario_extremes", idempotency_key="k-1"),
        messages.ConsumeRequest(user_id="ben", feature="headline_pick"),
        messages.ConsumeRequest(user_id="ada", feature="full_distribution"),
    ]
    results = (await api.BatchConsume(requests=requests)).results
    assert [one.WhichOneof("outcome") for one in results] == [
        "response",
        "error",
        "error",
        "error",
        "response",
        "response",
        "response",
    ]
    assert results[4].response.replayed
    assert results[4].response.transaction == results[0].response.transaction
    assert results[6].response.transaction.balance_after == 0
    failures = [
        failure_of_status(grpc.StatusCode.UNKNOWN, one.error, {})
        for one in results
        if one.WhichOneof("outcome") == "error"
    ]
    assert [one.reason for one in failures] == [
        "INSUFFICIENT_TOKENS",
        "INVALID_FIELD",
        "UNKNOWN_FEATURE",
    ]
    assert [one.error.code for one in results if one.error.code] == [9, 3, 5]


async def test_batch_consume_takes_1000_requests_and_not_one_more(api: Api) -> None:
    one = messages.ConsumeRequest(user_id="ada", feature="headline_pick")
    assert len((await api.BatchConsume(requests=[one] * 1000)).results) == 1000
    failure = await fails(api.BatchConsume(requests=[one] * 1001))
    assert failure.metadata == {"field": "requests"}


async def test_two_concurrent_requests_with_one_key_make_one_charge_and_both_get_it(
    api: Api,
) -> None:
    await api.TopUp(user_id="ada", amount=100)
    request = {"user_id": "ada", "feature": "full_distribution", "idempotency_key": "k-1"}
    responses = await asyncio.gather(*(api.Consume(**request) for _ in range(50)))
    assert len({one.transaction.transaction_id for one in responses}) == 1
    assert sum(not one.replayed for one in responses) == 1
    assert await api.balance("ada") == 98


async def test_a_hundred_racers_for_the_last_10_tokens_make_exactly_five_charges_of_2(
    api: Api,
) -> None:
    await api.TopUp(user_id="ada", amount=10)
    calls = (api.Consume(user_id="ada", feature="full_distribution") for _ in range(100))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in results) == 5
    assert await api.balance("ada") == 0
    # Denials beyond 60 in a minute are not recorded.
    assert 1 + 5 + 60 <= len(await api.history("ada")) <= 101


async def test_a_denial_binds_no_key_so_after_a_top_up_the_same_request_succeeds(api: Api) -> None:
    request = {"user_id": "ada", "feature": "full_distribution", "idempotency_key": "k-1"}
    await fails(api.Consume(**request))
    await api.TopUp(user_id="ada", amount=2)
    assert not (await api.Consume(**request)).replayed


async def test_a_key_belongs_to_one_user(api: Api) -> None:
    for user_id in ("ada", "ben"):
        response = await api.TopUp(user_id=user_id, amount=2, idempotency_key="k-1")
        assert not response.replayed


async def test_set_balance_records_the_difference(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=10)
    request = {"user_id": "ada", "balance": 4, "reason": "correction", "idempotency_key": "k"}
    first = await api.SetBalance(**request)
    assert first.transaction.kind == pb.TRANSACTION_KIND_ADJUSTMENT
    assert first.transaction.amount == -6
    await api.TopUp(user_id="ada", amount=1)
    assert (await api.SetBalance(**request)).replayed
    assert await api.balance("ada") == 5


async def test_an_account_nobody_wrote_to_reads_as_zero(api: Api) -> None:
    assert await api.GetAccount(user_id="new") == pb.Account(user_id="new")


async def test_an_account_has_its_balance_count_and_times(api: Api) -> None:
    first = (await api.TopUp(user_id="ada", amount=10)).transaction
    newest = (await api.Consume(user_id="ada", feature="full_distribution")).transaction
    assert await api.GetAccount(user_id="ada") == pb.Account(
        user_id="ada",
        balance=8,
        available=8,
        transaction_count=2,
        create_time=first.create_time,
        update_time=newest.create_time,
    )


async def test_get_transaction_reads_what_the_write_answered(api: Api) -> None:
    written = (await api.TopUp(user_id="ada", amount=10, reason="a gift")).transaction
    assert await api.GetTransaction(user_id="ada", transaction_id=written.transaction_id) == written


async def test_a_history_is_read_newest_first_page_by_page(api: Api) -> None:
    for amount in range(1, 8):
        await api.TopUp(user_id="ada", amount=amount)
    seen: list[int] = []
    sizes: list[int] = []
    token = ""
    while True:
        page = await api.ListTransactions(user_id="ada", page_size=3, page_token=token)
        seen += [one.amount for one in page.transactions]
        sizes.append(len(page.transactions))
        token = page.next_page_token
        if not token:
            break
        await api.TopUp(user_id="ada", amount=100)
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert sizes == [3, 3, 1]


async def test_a_history_is_filtered_by_feature_kind_and_status(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=4)
    for feature in ("full_distribution", "scenario_extremes", "headline_pick", "headline_pick"):
        try:
            await api.Consume(user_id="ada", feature=feature)
        except grpc.aio.AioRpcError:
            assert feature == "scenario_extremes"
    assert [one.feature for one in await api.history("ada", feature="headline_pick")] == [
        "headline_pick"
    ] * 2
    (denied,) = await api.history("ada", status=pb.TRANSACTION_STATUS_DENIED)
    assert denied.feature == "scenario_extremes"
    (added,) = await api.history("ada", kind=pb.TRANSACTION_KIND_TOP_UP)
    assert added.amount == 4
    assert await api.history("ada", feature="gone_long_ago") == []


async def test_a_rare_match_deep_in_a_history_is_found_by_following_the_pages(api: Api) -> None:
    await api.TopUp(user_id="ada", amount=4)
    free = messages.ConsumeRequest(user_id="ada", feature="headline_pick")
    for _ in range(3):
        await api.BatchConsume(requests=[free] * 1000)
    first = await api.ListTransactions(user_id="ada", kind=pb.TRANSACTION_KIND_TOP_UP)
    assert list(first.transactions) == []
    assert first.next_page_token
    (added,) = await api.history("ada", kind=pb.TRANSACTION_KIND_TOP_UP)
    assert added.sequence == 1


async def test_a_page_token_of_another_request_is_rejected(api: Api) -> None:
    for user_id in ("ada", "ben"):
        for _ in range(3):
            await api.TopUp(user_id=user_id, amount=1)
    token = (await api.ListTransactions(user_id="ada", page_size=1)).next_page_token
    for fields in ({"user_id": "ben"}, {"user_id": "ada", "feature": "headline_pick"}):
        failure = await fails(api.ListTransactions(page_token=token, **fields))
        assert failure.metadata == {"field": "page_token"}


async def test_the_catalogue_version_of_the_features_stands_in_each_transaction(api: Api) -> None:
    version = (await api.ListFeatures()).catalogue_version
    transaction = (await api.TopUp(user_id="ada", amount=1)).transaction
    assert version
    assert transaction.catalogue_version == version
