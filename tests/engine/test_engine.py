"""The committing engine, on a store that commits when the test says so."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from entitlements_server.engine.engine import MAX_GROUP, MIN_BUSY_GROUP, Engine
from entitlements_server.errors import InternalError, OverloadedError
from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue, Feature
from entitlements_server.ledger.commands import Command, Consume, TopUp
from entitlements_server.ledger.decide import Rule
from entitlements_server.ledger.outcomes import Recorded
from entitlements_server.stores.interface import CommandResult, Failed, StoreUnavailableError
from entitlements_server.stores.memory import MemoryStore
from support.ledger import NOW_US
from support.stores import FailingStore, GatedStore

ONE = TopUp(user_id="ada", amount=1)


def engine_on(store: GatedStore | FailingStore, *, max_queued: int = 100) -> Engine:
    return Engine(store, lambda: BUILT_IN, max_queued=max_queued)


async def begin(engine: Engine, store: GatedStore) -> "asyncio.Task[object]":
    """Submit a command whose group has begun when this returns."""
    task = asyncio.ensure_future(engine.submit([ONE]))
    await store.begun.wait()
    return task


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_engine_commits_a_command_at_once_and_alone() -> None:
    store = GatedStore()
    task = await begin(engine_on(store), store)
    assert store.groups == [[ONE]]
    store.gate.set()
    await task


async def test_commands_that_arrive_during_a_commit_form_the_next_group() -> None:
    store = GatedStore()
    engine = engine_on(store)
    first = await begin(engine, store)
    others = [asyncio.ensure_future(engine.submit([ONE])) for _ in range(7)]
    await settle()
    assert engine.queued == 7
    store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(group) for group in store.groups] == [1, 7]
    assert engine.queued == 0


async def arrive(engine: Engine, turn: int) -> None:
    """Submit a command that many turns of the event loop from now."""
    for _ in range(turn):
        await asyncio.sleep(0)
    await engine.submit([ONE])


async def test_commands_of_calls_that_are_under_way_join_the_group() -> None:
    """They arrive one by one, a turn of the event loop or a few apart."""
    store = GatedStore()
    store.gate.set()
    engine = engine_on(store)
    await asyncio.gather(*(arrive(engine, turn) for turn in (0, 1, 2, 5, 9, 12)))
    assert [len(group) for group in store.groups] == [6]


async def test_a_stream_of_commands_without_end_does_not_keep_a_group_from_beginning() -> None:
    """With enough of them it begins, whoever is still under way."""
    store = GatedStore()
    store.gate.set()
    engine = engine_on(store, max_queued=1000)
    await asyncio.gather(*(arrive(engine, turn) for turn in range(3 * MIN_BUSY_GROUP)))
    assert len(store.groups) > 2
    assert max(map(len, store.groups)) <= MIN_BUSY_GROUP + 5


async def test_a_group_never_takes_more_than_its_limit_nor_splits_a_submission() -> None:
    store = GatedStore()
    engine = engine_on(store, max_queued=10_000)
    first = await begin(engine, store)
    sizes = [600, 300, 200, MAX_GROUP]
    others = [asyncio.ensure_future(engine.submit([ONE] * size)) for size in sizes]
    await settle()
    store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(group) for group in store.groups] == [1, 900, 200, MAX_GROUP]


async def test_no_reply_is_given_before_the_commit_has_returned() -> None:
    store = GatedStore()
    task = await begin(engine_on(store), store)
    await settle()
    assert not task.done()
    store.gate.set()
    await task


async def test_a_full_queue_sheds_more_and_charges_nothing() -> None:
    store = GatedStore()
    engine = engine_on(store, max_queued=3)
    tasks = [await begin(engine, store)]
    tasks += [asyncio.ensure_future(engine.submit([ONE])) for _ in range(3)]
    await settle()
    with pytest.raises(OverloadedError) as refused:
        await engine.submit([ONE])
    assert refused.value.retry_delay_s > 0
    store.gate.set()
    await asyncio.gather(*tasks)
    assert (await store.account("ada")).balance == 4


async def test_a_command_whose_caller_has_gone_before_its_group_is_dropped_uncharged() -> None:
    store = GatedStore()
    engine = engine_on(store)
    first = await begin(engine, store)
    gone = asyncio.ensure_future(engine.submit([ONE]))
    await settle()
    gone.cancel()
    store.gate.set()
    await first
    await engine.close()
    assert (await store.account("ada")).balance == 1


async def test_a_command_whose_deadline_has_passed_before_its_group_is_dropped_uncharged() -> None:
    store = GatedStore()
    engine = engine_on(store)
    first = await begin(engine, store)
    late = asyncio.ensure_future(
        engine.submit([ONE], deadline=asyncio.get_running_loop().time() - 1)
    )
    await settle()
    store.gate.set()
    await first
    with pytest.raises(OverloadedError, match="deadline"):
        await late
    assert (await store.account("ada")).balance == 1


async def test_a_command_whose_group_has_begun_completes_though_its_caller_has_gone() -> None:
    store = GatedStore()
    engine = engine_on(store)
    gone = await begin(engine, store)
    gone.cancel()
    await settle()
    store.gate.set()
    await engine.close()
    assert (await store.account("ada")).balance == 1


async def test_closing_commits_what_waits_and_sheds_what_comes() -> None:
    store = GatedStore()
    engine = engine_on(store)
    tasks = [await begin(engine, store), asyncio.ensure_future(engine.submit([ONE]))]
    await settle()
    closing = asyncio.ensure_future(engine.close())
    await settle()
    with pytest.raises(OverloadedError, match="shutting down"):
        await engine.submit([ONE])
    store.gate.set()
    await closing
    await asyncio.gather(*tasks)
    assert (await store.account("ada")).balance == 2


async def test_a_failing_store_is_reported_to_the_whole_group_and_the_next_group_is_tried() -> None:
    store = FailingStore()
    engine = engine_on(store)
    store.error = StoreUnavailableError("The disk is on fire.")
    failed = await asyncio.gather(*(engine.submit([ONE]) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failed] == [StoreUnavailableError] * 3
    store.error = None
    (outcome,) = await engine.submit([ONE])
    assert isinstance(outcome, Recorded)


async def test_a_new_catalogue_takes_effect_with_the_next_group() -> None:
    catalogue = BUILT_IN
    engine = Engine(FailingStore(), lambda: catalogue)
    await engine.submit([TopUp(user_id="ada", amount=10)])
    catalogue = Catalogue((Feature(feature_id="full_distribution", cost=7, title="Dear"),))
    (outcome,) = await engine.submit([Consume(user_id="ada", feature="full_distribution")])
    assert isinstance(outcome, Recorded)
    assert outcome.transaction.cost == 7
    assert outcome.transaction.catalogue_version == catalogue.version


class PickyStore(GatedStore):
    """Fails whole groups that have a command of bob, as a store does that nobody foresaw."""

    async def commit(self, commands: Sequence[Command], rule: Rule) -> Sequence[CommandResult]:
        if any(command.user_id == "bob" for command in commands):
            self.groups.append(commands)
            raise ValueError("a secret")
        return await super().commit(commands, rule)


async def test_a_user_whose_part_cannot_be_committed_is_bisected_out_of_the_group() -> None:
    store = PickyStore()
    store.gate.set()
    engine = engine_on(store)
    users = [f"user-{n}" for n in range(15)]
    users.insert(5, "bob")
    commands = [TopUp(user_id=user, amount=n) for n in (1, 2) for user in users]
    with capture_logs() as lines:
        results = await engine.submit(commands)
    for command, result in zip(commands, results, strict=True):
        if command.user_id == "bob":
            assert isinstance(result, Failed)
            assert isinstance(result.error, InternalError)
            assert "secret" not in result.error.message
        else:
            assert isinstance(result, Recorded)
            assert result.transaction.user_id == command.user_id
            assert result.transaction.amount == command.amount
    [line] = lines
    assert (line["log_level"], line["user_id"]) == ("error", "bob")
    assert len(store.groups) == 9
    await engine.close()


async def test_a_history_ahead_of_the_clock_is_a_warning_once_a_minute() -> None:
    now_us = NOW_US + 3_600_000_000
    store = MemoryStore()
    engine = Engine(store, lambda: BUILT_IN, clock_us=lambda: now_us)
    await engine.submit([ONE])
    now_us = NOW_US
    with capture_logs() as lines:
        await engine.submit([ONE])
        await engine.submit([ONE])
    [line] = lines
    assert (line["log_level"], line["user_id"], line["seconds_ahead"]) == ("warning", "ada", 3600)
    now_us = NOW_US + 3_599_000_000
    with capture_logs() as lines:
        await Engine(store, lambda: BUILT_IN, clock_us=lambda: now_us).submit([ONE])
    assert lines == []
    await engine.close()
