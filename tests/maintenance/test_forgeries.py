"""Forged histories: which of them verify finds, and that a checkpoint finds all of them."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from entitlements_server.ledger.commands import Command, Refund
from entitlements_server.maintenance.checkpoint import heads_file, take
from entitlements_server.stores.memory import MemoryStore
from support.forgeries import (
    FORGERIES,
    PAGE,
    TABLE,
    Forgery,
    History,
    MemoryPlace,
    Place,
    RedisPlace,
    SqlitePlace,
    findings_of,
    seen,
    table,
)
from support.ledger import NOW_US, all_accounts, commit, consume, top_up
from support.redis import RedisServer


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "redis":
        return RedisPlace(request.getfixturevalue("redis_server"))
    return SqlitePlace(tmp_path / "ledger.sqlite")


@pytest.mark.slow
@pytest.mark.parametrize("careful", [False, True], ids=["clumsy", "careful"])
@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.what)
async def test_a_checkpoint_finds_every_forgery(
    place: Place, forgery: Forgery, careful: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    by_verify, against = await seen(place, forgery, folder, careful=careful)
    assert against
    # Rules that a forgery breaks are found without one; so are rows that do not lead to the head.
    assert by_verify or careful or forgery.whole


@pytest.mark.slow
async def test_the_table_in_the_docs_is_what_is_found(tmp_path: Path) -> None:
    found = TABLE.search(PAGE.read_text("utf-8"))
    assert found
    assert found[0] == await table(tmp_path), "run `make docs`"


Deed = tuple[str, int, int]
"""A user, what is done, and for a refund which transaction."""

DEEDS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=30
)
EDITS = ("drop", "swap", "repeat", "reason", "caller", "event_id", "feature", "create_time_us")


async def do(store: MemoryStore, deeds: list[Deed], start_us: int) -> None:
    """Do what is possible of it, each at another moment."""
    for number, (user, deed, sequence) in enumerate(deeds):
        command: Command = top_up(user, deed + 1)
        if deed < 4:
            command = consume(user, f"k-{sequence}" if deed else "", event_id=f"e-{deed}")
        elif deed == 4:
            charge = await store.transaction(user, sequence)
            command = Refund(
                user_id=user, transaction_id=charge.transaction_id if charge else "1-a"
            )
        await commit(store, command, now_us=start_us + number)


def edited(history: History, edit: str, index: int) -> History:
    """Edit the transaction at an index, or the one there and its neighbour."""
    one = history[index]
    match edit:
        case "drop":
            return [*history[:index], *history[index + 1 :]]
        case "swap":
            rest = history[:index] + history[index + 1 :]
            return [*rest[: index - 1], one, *rest[index - 1 :]] if index else [*rest, one]
        case "repeat":
            return [*history[: index + 1], *history[index:]]
        case "create_time_us":
            return [*history[:index], replace(one, create_time_us=1), *history[index + 1 :]]
        case _:
            longer = replace(one, **{edit: getattr(one, edit) + "x"})
            return [*history[:index], longer, *history[index + 1 :]]


@pytest.mark.parametrize("examples", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_an_honest_ledger_holds_and_a_forged_one_does_not(tmp_path: Path, examples: int) -> None:
    """Whatever was done before and after the checkpoint, and wherever history was edited."""

    @settings(max_examples=examples, deadline=None, database=None)
    @given(
        before=DEEDS,
        after=DEEDS,
        edit=st.sampled_from(EDITS),
        chance=st.randoms(use_true_random=False),
    )
    def holds(before: list[Deed], after: list[Deed], edit: str, chance: random.Random) -> None:
        asyncio.run(holds_async(before, after, edit, chance))

    async def holds_async(
        before: list[Deed], after: list[Deed], edit: str, chance: random.Random
    ) -> None:
        store = MemoryStore()
        place = MemoryPlace(store)
        file = tmp_path / "checkpoint"
        for one in (file, heads_file(file)):
            one.unlink(missing_ok=True)
        await do(store, before, NOW_US)
        taken = await take(store, file)
        assert taken.header
        lengths = {one.user_id: one.transaction_count for one in await all_accounts(store)}
        await do(store, after, NOW_US + 1000)
        assert await findings_of(place) == []
        assert await findings_of(place, file) == []
        if lengths:
            user = chance.choice(sorted(lengths))
            history = list(await store.history_after(user, 0, 1000))
            forged = edited(history, edit, chance.randrange(lengths[user]))
            if forged != history:
                place.write_history(user, forged)
                place.write_rest(user, forged)
                assert await findings_of(place, file)

    holds()
