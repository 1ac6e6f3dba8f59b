"""Tokens that expire and access windows, over real channels, with a clock that the test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from entitlements.v1 import entitlement_service_pb2 as messages
from entitlements.v1 import resources_pb2 as pb
from entitlements_server.app import running
from entitlements_server.config.callers import Caller
from entitlements_server.config.settings import Settings
from support.access import CALLERS, bearer
from support.ledger import NOW_US
from support.rpc import Api, fails

DAY_S = 86_400
CATALOGUE = """
[[features]]
feature = "report"
cost = 3
title = "Report"
access = "PT48H"

[[features]]
feature = "chart"
cost = 2
title = "Chart"
"""
VIEW: dict[str, Any] = {"user_id": "ada", "feature": "report", "event_id": "e-1"}


class Service(Api):
    """An Api with the clock and the catalogue of its server."""

    now_us = NOW_US
    catalogue: Path
    reload: Any

    def pass_s(self, seconds: float) -> None:
        self.now_us += int(seconds * 1_000_000)

    def at(self, seconds: float) -> Timestamp:
        """A time so many seconds from now."""
        whole, rest = divmod(self.now_us + int(seconds * 1_000_000), 1_000_000)
        return Timestamp(seconds=whole, nanos=rest * 1000)


@asynccontextmanager
async def serving(
    tmp_path: Path, store: str = "memory://", callers: tuple[Caller, ...] = ()
) -> AsyncIterator[Service]:
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(CATALOGUE)
    settings = Settings(listen="127.0.0.1:0", store=store, catalogue=catalogue)
    found: list[Service] = []
    async with (
        running(settings, callers, clock_us=lambda: found[0].now_us if found else NOW_US) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        service = Service(channel)
        service.catalogue = catalogue
        service.reload = server.reload
        found.append(service)
        yield service


@pytest.fixture(params=["memory", "sqlite"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    url = "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/ledger.sqlite"
    async with serving(tmp_path, url) as service:
        yield service


async def test_tokens_that_have_expired_can_not_be_spent_though_they_are_in_the_balance(
    service: Service,
) -> None:
    await service.TopUp(user_id="ada", amount=12, lifetime=Duration(seconds=3 * DAY_S))
    await service.TopUp(user_id="ada", amount=1)
    account = await service.GetAccount(user_id="ada")
    assert (account.balance, account.available, account.next_expire_amount) == (13, 13, 12)
    assert account.next_expire_time == service.at(3 * DAY_S)
    [grant] = account.grants
    assert (grant.amount, grant.expire_time) == (12, service.at(3 * DAY_S))
    service.pass_s(3 * DAY_S)
    account = await service.GetAccount(user_id="ada")
    assert (account.balance, account.available, len(account.grants)) == (13, 1, 0)
    assert not account.HasField("next_expire_time")
    access = (await service.CheckAccess(user_id="ada", feature="chart")).access
    assert (access.allowed, access.available) == (False, 1)
    failure = await fails(service.Consume(user_id="ada", feature="chart"))
    assert (failure.reason, failure.metadata["available"]) == ("INSUFFICIENT_TOKENS", "1")
    [denied] = (await service.ListTransactions(user_id="ada", page_size=1)).transactions
    assert (denied.balance_before, denied.available) == (13, 1)


async def test_what_was_asked_for_of_an_expiry_is_stored_and_compared_under_a_key(
    service: Service,
) -> None:
    request = {"user_id": "ada", "amount": 5, "idempotency_key": "k-1"}
    first = await service.TopUp(**request, lifetime=Duration(seconds=60))
    made = first.transaction
    assert made.lifetime.seconds == 60
    assert not made.HasField("expire_time")
    assert [(one.grant, one.amount, one.expire_time) for one in made.draws] == [
        (made.transaction_id, 5, service.at(60))
    ]
    # Also when it has lapsed, a retry is a retry.
    service.pass_s(100)
    assert (await service.TopUp(**request, lifetime=Duration(seconds=60))).replayed
    failure = await fails(service.TopUp(**request, lifetime=Duration(seconds=61)))
    assert failure.metadata["field"] == "lifetime"
    failure = await fails(service.TopUp(**request))
    assert failure.metadata["field"] == "lifetime"


async def test_an_expiry_that_is_past_is_rejected_unless_it_is_a_retry(service: Service) -> None:
    request = {"user_id": "ada", "amount": 5, "expire_time": service.at(60)}
    await service.TopUp(**request, idempotency_key="k-1")
    service.pass_s(60)
    assert (await service.TopUp(**request, idempotency_key="k-1")).replayed
    failure = await fails(service.TopUp(**request))
    assert (failure.reason, failure.metadata["field"]) == ("INVALID_FIELD", "expire_time")


@pytest.mark.parametrize("seconds", [0, -1, 36_500 * DAY_S + 1])
async def test_a_lifetime_out_of_range_is_rejected(service: Service, seconds: int) -> None:
    failure = await fails(
        service.TopUp(user_id="ada", amount=1, lifetime=Duration(seconds=seconds))
    )
    assert failure.metadata["field"] == "lifetime"


async def test_the_65th_open_grant_is_rejected_and_a_known_expiry_is_joined(
    service: Service,
) -> None:
    for n in range(64):
        await service.TopUp(user_id="ada", amount=1, expire_time=service.at(100 + n))
    failure = await fails(service.TopUp(user_id="ada", amount=1, expire_time=service.at(99)))
    assert (failure.reason, failure.metadata) == (
        "TOO_MANY_GRANTS",
        {"user_id": "ada", "limit": "64"},
    )
    await service.TopUp(user_id="ada", amount=1, expire_time=service.at(100))
    await service.TopUp(user_id="ada", amount=1)
    account = await service.GetAccount(user_id="ada")
    assert (len(account.grants), account.grants[0].amount, account.balance) == (64, 2, 66)


async def test_a_higher_price_than_accepted_charges_and_records_nothing(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=20)
    request = {"user_id": "ada", "feature": "chart", "quantity": 3, "idempotency_key": "k-1"}
    failure = await fails(service.Consume(**request, max_cost=5))
    assert (failure.reason, failure.metadata) == (
        "PRICE_CHANGED",
        {"feature": "chart", "max_cost": "5", "cost": "6"},
    )
    assert len(await service.history("ada")) == 1
    made = (await service.Consume(**request, max_cost=6)).transaction
    assert (made.cost, made.amount, made.quantity) == (6, -6, 3)
    # The retry of a paid call succeeds, whatever it accepts by now.
    assert (await service.Consume(**request, max_cost=0)).replayed
    failure = await fails(service.Consume(**{**request, "quantity": 2}))
    assert failure.metadata["field"] == "quantity"


async def test_a_guard_of_zero_lets_only_what_is_free_pass(service: Service) -> None:
    failure = await fails(service.Consume(user_id="ada", feature="chart", max_cost=0))
    assert failure.reason == "PRICE_CHANGED"


@pytest.mark.parametrize(
    "labels",
    [
        {f"k{n}": "" for n in range(9)},
        {"Key": ""},
        {"": ""},
        {"k" * 65: ""},
        {"k": "v" * 257},
        {"k": "a\nb"},
    ],
)
async def test_labels_that_are_malformed_are_rejected(
    service: Service, labels: dict[str, str]
) -> None:
    for call in (
        service.Consume(user_id="ada", feature="chart", labels=labels),
        service.TopUp(user_id="ada", amount=1, labels=labels),
        service.SetBalance(user_id="ada", balance=1, labels=labels),
        service.Refund(user_id="ada", transaction_id="1-x", labels=labels),
    ):
        assert (await fails(call)).metadata["field"] == "labels"


async def test_labels_are_shown_and_those_of_the_first_write_stay(service: Service) -> None:
    labels = {"team": "blue é", "order.id": "7"}
    await service.TopUp(user_id="ada", amount=9, labels=labels, idempotency_key="k-1")
    again = await service.TopUp(
        user_id="ada", amount=9, labels={"team": "red"}, idempotency_key="k-1"
    )
    assert (again.replayed, dict(again.transaction.labels)) == (True, labels)


async def test_a_second_view_is_covered_binds_no_key_and_records_nothing(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=10)
    first = await service.Consume(**VIEW, idempotency_key="k-1")
    assert (first.covered, first.access_until) == (False, service.at(48 * 3600))
    service.pass_s(47 * 3600)
    second = await service.Consume(**VIEW, idempotency_key="k-2")
    assert (second.covered, second.replayed, second.refunded) == (True, False, 0)
    assert second.transaction == first.transaction
    assert second.access_until == first.access_until
    assert len(await service.history("ada")) == 2
    # The key that was covered is free for anything.
    other = await service.Consume(user_id="ada", feature="chart", idempotency_key="k-2")
    assert not other.replayed


async def test_a_window_is_shown_by_check_access_and_goes_on_without_its_feature(
    service: Service,
) -> None:
    await service.TopUp(user_id="ada", amount=3)
    await service.Consume(**VIEW)
    service.catalogue.write_text(CATALOGUE.replace('"report"', '"other"'))
    service.reload()
    access = (await service.CheckAccess(**VIEW)).access
    assert (access.allowed, access.required) == (True, 0)
    assert access.access_until == service.at(48 * 3600)
    assert (await service.Consume(**VIEW)).covered
    failure = await fails(service.CheckAccess(**{**VIEW, "event_id": "e-2"}))
    assert failure.reason == "UNKNOWN_FEATURE"
    named = ["report", "chart"]
    found = (await service.BatchCheckAccess(user_id="ada", features=named, event_id="e-1")).access
    assert [(one.feature, one.allowed, one.HasField("access_until")) for one in found] == [
        ("report", True, True),
        ("chart", False, False),
    ]
    service.pass_s(48 * 3600)
    assert (await fails(service.CheckAccess(**VIEW))).reason == "UNKNOWN_FEATURE"
    assert (await fails(service.Consume(**VIEW))).reason == "UNKNOWN_FEATURE"


async def test_the_replay_of_a_key_says_that_its_window_is_over(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=3)
    await service.Consume(**VIEW, idempotency_key="k-1")
    service.pass_s(90 * DAY_S)
    again = await service.Consume(**VIEW, idempotency_key="k-1")
    assert again.replayed
    assert again.access_until.seconds * 1_000_000 < service.now_us


async def test_a_whole_refund_ends_a_window_and_replays_say_what_was_refunded(
    service: Service,
) -> None:
    await service.TopUp(user_id="ada", amount=6)
    first = await service.Consume(**VIEW, idempotency_key="k-1")
    refund = {"user_id": "ada", "transaction_id": first.transaction.transaction_id}
    await service.Refund(**refund, amount=1)
    covered = await service.Consume(**VIEW)
    assert (covered.covered, covered.refunded) == (True, 1)
    await service.Refund(**refund)
    replayed = await service.Consume(**VIEW, idempotency_key="k-1")
    assert (replayed.replayed, replayed.refunded) == (True, 3)
    assert not (await service.CheckAccess(**VIEW)).access.HasField("access_until")
    second = await service.Consume(**VIEW)
    assert not second.covered
    assert second.transaction.amount == -3


async def test_a_feature_with_windows_takes_one_use_at_a_time(service: Service) -> None:
    failure = await fails(service.Consume(**VIEW, quantity=2))
    assert (failure.reason, failure.metadata["field"]) == ("INVALID_FIELD", "quantity")


async def test_the_second_of_one_event_in_a_batch_is_covered(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=10)
    requests = [messages.ConsumeRequest(**VIEW)] * 2
    first, second = (await service.BatchConsume(requests=requests)).results
    assert (first.response.covered, second.response.covered) == (False, True)
    assert await service.balance("ada") == 7


async def test_a_covered_answer_leaves_out_what_another_caller_put_there(tmp_path: Path) -> None:
    async with serving(tmp_path, callers=CALLERS) as service:

        def call(name: str, rpc: str, request: Any) -> Any:
            return getattr(service.stub, rpc)(request, metadata=bearer(name))

        await call("all", "TopUp", messages.TopUpRequest(user_id="ada", amount=9))
        view = messages.ConsumeRequest(**VIEW, idempotency_key="k-1", labels={"a": "b"})
        await call("all", "Consume", view)
        plain = messages.ConsumeRequest(**VIEW)
        own = (await call("all", "Consume", plain)).transaction
        assert (own.idempotency_key, own.caller, dict(own.labels)) == (
            "k-1",
            own.caller,
            {"a": "b"},
        )
        other = await call("charger", "Consume", plain)
        assert other.covered
        assert own.caller
        made = other.transaction
        assert (made.idempotency_key, made.caller, dict(made.labels)) == ("", "", {})


async def test_denials_beyond_60_a_minute_are_answered_and_not_recorded(service: Service) -> None:
    for _ in range(60):
        failure = await fails(service.Consume(user_id="ada", feature="chart"))
        assert failure.metadata["recorded"] == "true"
    failure = await fails(service.Consume(user_id="ada", feature="chart"))
    assert failure.reason == "INSUFFICIENT_TOKENS"
    assert failure.metadata["recorded"] == "false"
    assert "transaction_id" not in failure.metadata
    assert len(await service.history("ada")) == 60
    service.pass_s(60)
    failure = await fails(service.Consume(user_id="ada", feature="chart"))
    assert failure.metadata["recorded"] == "true"


async def test_a_balance_is_set_of_what_can_be_spent(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=5, lifetime=Duration(seconds=10))
    service.pass_s(10)
    request = {"user_id": "ada", "balance": 7, "idempotency_key": "k-1"}
    made = (await service.SetBalance(**request)).transaction
    assert (made.balance_before, made.amount, made.balance_after) == (0, 7, 7)
    kinds = [one.kind for one in await service.history("ada")]
    assert kinds == [
        pb.TRANSACTION_KIND_ADJUSTMENT,
        pb.TRANSACTION_KIND_EXPIRE,
        pb.TRANSACTION_KIND_TOP_UP,
    ]
    assert (await service.GetAccount(user_id="ada")).available == 7
    assert (await service.SetBalance(**request)).replayed


async def test_a_refund_to_a_grant_that_has_expired_lasts_for_a_week(service: Service) -> None:
    await service.TopUp(user_id="ada", amount=2, lifetime=Duration(seconds=10))
    charge = (await service.Consume(user_id="ada", feature="chart")).transaction
    service.pass_s(DAY_S)
    await service.Refund(user_id="ada", transaction_id=charge.transaction_id)
    account = await service.GetAccount(user_id="ada")
    assert (account.available, account.next_expire_time) == (2, service.at(7 * DAY_S))
    service.pass_s(7 * DAY_S)
    assert (await service.GetAccount(user_id="ada")).available == 0
