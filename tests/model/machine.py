"""Random commands at random times: a store has to do what the model says, and what must always hold."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import settings as Settings  # noqa: N812  # it is a class
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from entitlements_server.ledger import grants, settlement
from entitlements_server.ledger.catalogue import Catalogue, Feature
from entitlements_server.ledger.commands import (
    Command,
    Consume,
    Refund,
    SetBalance,
    Settle,
    TopUp,
)
from entitlements_server.ledger.decide import bind, denial
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.outcomes import Outcome, Recorded, Rejected, Replayed, Unchanged
from entitlements_server.ledger.settlement import settled
from entitlements_server.ledger.terms import Choices
from entitlements_server.ledger.values import Kind, Status, Transaction, sequence_of
from entitlements_server.stores.interface import Store
from model.rules import Line, Model, Moved, Wanted, same_moves
from support.kinds import Kind as StoreKind
from support.ledger import NOW_US, decided, whole_history

SECOND = 1_000_000
MAX_GRANTS = 3
MAX_DENIALS = 2
GRACE_S = 500
USERS = ("ada", "bob")
EVENTS = ("", "e-1", "e-1", "e-2")
KEYS = ("", "", "", "k-1", "k-2", "k-3")

CATALOGUES = tuple(
    Catalogue(features)
    for features in (
        (
            Feature(feature_id="free", cost=0, title="t", access_us=100 * SECOND),
            Feature(feature_id="plain", cost=2, title="t"),
            Feature(feature_id="window", cost=3, title="t", access_us=100 * SECOND),
        ),
        (
            Feature(feature_id="plain", cost=3, title="t", access_us=30 * SECOND),
            Feature(feature_id="window", cost=1, title="t"),
        ),
        (Feature(feature_id="plain", cost=1, title="t"),),
    )
)
"""Prices, windows and features come and go."""

Draft = tuple[str, str, str, str, str, int, int, int]
"""What, user, key, feature, event, a small number, another, and which charge."""

WHATS = (
    ["consume"] * 4
    + ["view"] * 3
    + ["refund"] * 3
    + ["expiring"] * 3
    + ["top up", "set", "settle", "retry"]
)
FEATURES = ["free", "plain", "plain", "window", "window"]
STEPS_S = [0] * 8 + [1, 10, 30, 59, 60, 61, 90, 100, 300, 500, 600, -1, -45]
"""How the clock moves. It may also be set back."""

DRAFTS = st.tuples(
    st.sampled_from(WHATS),
    st.sampled_from(USERS),
    st.sampled_from(KEYS),
    st.sampled_from(FEATURES),
    st.sampled_from(EVENTS),
    st.integers(0, 7),
    st.integers(0, 3),
    st.integers(0, 30),
)


def draft_of(random: Random) -> Draft:
    """One of `DRAFTS`, from a generator that is quick."""
    return (
        random.choice(WHATS),
        random.choice(USERS),
        random.choice(KEYS),
        random.choice(FEATURES),
        random.choice(EVENTS),
        random.randint(0, 7),
        random.randint(0, 3),
        random.randint(0, 30),
    )


class Machine(RuleBasedStateMachine):
    """A store and the model, side by side.

    Args:
        kind: Where the ledger is kept.
        patches: Made before the store is opened: seeded bugs.
    """

    def __init__(self, kind: StoreKind, patches: Sequence[Any] = ()) -> None:
        super().__init__()
        self.kind = kind
        self.model = Model(MAX_GRANTS, MAX_DENIALS, GRACE_S * SECOND)
        self.now_us = NOW_US
        self.catalogue = CATALOGUES[0]
        self.sent: list[Command] = []
        self.runner = asyncio.Runner()
        self.stack = ExitStack()
        for module in (grants, settlement):
            self.stack.enter_context(patch.object(module, "MAX_GRANTS", MAX_GRANTS))
        for one in patches:
            self.stack.enter_context(one)

    @initialize()
    def open(self) -> None:
        self.store: Store = self.runner.run(self.kind.open())

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=4), seconds=st.sampled_from(STEPS_S))
    def one_group(self, drafts: list[Draft], seconds: int) -> None:
        self.now_us += seconds * SECOND
        histories = self.runner.run(self.histories())
        commands = [self.command(draft, histories) for draft in drafts]
        self.sent += commands
        outcomes = self.runner.run(self.commit(commands))
        for command, outcome in zip(commands, outcomes, strict=True):
            refunds = None
            if isinstance(command, Refund):
                refunds = self.charge_of(command, histories)
            wanted = self.model.decide(command, refunds, self.now_us, self.catalogue)
            self.compare(command, outcome, wanted)

    @rule(catalogue=st.sampled_from(CATALOGUES))
    def another_catalogue(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if self.kind.durable:
            self.runner.run(self.kind.abandon(self.store) if crash else self.store.close())
            self.store = self.runner.run(self.kind.open())

    @invariant()
    def what_must_always_hold(self) -> None:
        self.runner.run(self.check())

    def teardown(self) -> None:
        try:
            self.runner.run(self.store.close())
        finally:
            self.runner.close()
            self.stack.close()

    def command(self, draft: Draft, histories: dict[str, list[Transaction]]) -> Command:
        what, user_id, key, feature, event_id, number, other, which = draft
        mine: dict[str, Any] = {"user_id": user_id, "idempotency_key": key}
        match what:
            case "retry" if self.sent:
                return self.sent[-1 - which % len(self.sent)]
            case "view":
                return Consume(**mine, feature="window", event_id="e-1")
            case "consume":
                return Consume(
                    **mine,
                    feature=feature,
                    event_id=event_id,
                    quantity=1 if number < 5 else 2,
                    max_cost=other if which % 3 == 0 else None,
                )
            case "refund":
                lines = histories[user_id]
                charges = [one for one in lines if one.amount < 0 and one.cost] or lines
                ids = [one.transaction_id for one in charges] or ["1-unknown"]
                amount = 0 if number > 3 else number
                return Refund(
                    **mine, transaction_id=ids[-1 - which % min(len(ids), 3)], amount=amount
                )
            case "expiring" if other:
                lifetimes = (20, 20, 60, 100, 1000)
                return TopUp(
                    **mine, amount=number // 2 + 1, lifetime_us=lifetimes[which % 5] * SECOND
                )
            case "expiring":
                # Some of these times are past by now.
                step = (which % 12) * 50 * SECOND
                return TopUp(**mine, amount=number // 2 + 1, expire_time_us=NOW_US + step)
            case "set":
                return SetBalance(**mine, balance=number)
            case "settle":
                return Settle(user_id=user_id)
        return TopUp(**mine, amount=number + 1)

    def charge_of(self, command: Refund, histories: dict[str, list[Transaction]]) -> int | None:
        for line in histories[command.user_id]:
            if line.transaction_id == command.transaction_id:
                return line.sequence
        return None

    async def commit(self, commands: Sequence[Command]) -> list[Outcome]:
        choices = Choices(refund_grace_us=GRACE_S * SECOND, max_denials=MAX_DENIALS)
        return decided(
            await self.store.commit(commands, bind(self.catalogue, self.now_us, choices))
        )

    async def histories(self) -> dict[str, list[Transaction]]:
        return {user_id: await whole_history(self.store, user_id) for user_id in USERS}

    def compare(self, command: Command, outcome: Outcome, wanted: Wanted) -> None:
        """Require that an outcome is what the model says."""
        context = (command, outcome, wanted)
        user = self.model.user(command.user_id)
        if wanted.reason:
            assert isinstance(outcome, Rejected), context
            assert outcome.error.reason == wanted.reason, context
        elif wanted.answer:
            assert isinstance(outcome, Replayed), context
            assert outcome.transaction.sequence == wanted.answer, context
            assert outcome.covered == wanted.covered, context
            if user.line(wanted.answer).kind == "CONSUME":
                assert outcome.refunded == wanted.refunded, context
        elif not wanted.lines:
            assert isinstance(outcome, Unchanged), context
        else:
            assert isinstance(outcome, Recorded), context
            assert len(outcome.transactions) == len(wanted.lines), context
            last = len(user.history)
            for transaction, line in zip(outcome.transactions, wanted.lines, strict=True):
                assert agrees(transaction, line), (transaction, line)
                assert transaction.sequence <= last
            error = denial(outcome.transaction)
            if error is not None:
                assert error.metadata["available"] == str(wanted.lines[-1].available), context

    async def check(self) -> None:
        due: list[tuple[int, str]] = []
        for user_id in USERS:
            user = self.model.user(user_id)
            account = await self.store.account(user_id)
            history = await whole_history(self.store, user_id)
            assert len(history) == len(user.history) == account.transaction_count
            assert account.balance == sum(one.amount for one in history) == len(user.tokens)
            assert settled(account, self.now_us).balance == len(user.spendable(self.now_us))
            check_provenance(history, {one.grant: one.amount for one in account.grants})
            known = History(account)
            for one in history:
                assert list(known.add(one, encode_transaction(one))) == []
            assert list(known.finish()) == []
            times = [int(one.expires) for one in user.tokens if one.lot]
            assert account.due_us == min(times, default=0)
            if times:
                due.append((min(times), user_id))
            names = {f"{feature} {event}": n for (feature, event), n in user.windows.items()}
            names |= user.keys
            if names:
                bound = await self.store.bound(user_id, [*names, "no-such-key"])
                found = {name: one.transaction.sequence for name, one in bound.items()}
                assert found == names
                assert all(
                    one.refunded == user.line(n).back
                    for one, n in ((bound[name], n) for name, n in names.items())
                    if user.line(n).kind == "CONSUME"
                )
        until = self.now_us
        expected = [user_id for at, user_id in sorted(due) if at <= until]
        assert list(await self.store.due(until, 10)) == expected


def agrees(transaction: Transaction, line: Line) -> bool:
    """Whether a transaction is what the model says."""
    moves: Moved = [
        (sequence_of(one.grant) or 0, one.amount, one.expire_time_us) for one in transaction.draws
    ]
    takes = line.amount < 0
    return (
        transaction.kind is Kind[line.kind]
        and (transaction.status is Status.DENIED) == line.denied
        and (transaction.amount, transaction.cost) == (line.amount, line.cost)
        and transaction.decided_us == line.time
        and transaction.access_until_us == line.access_until
        and same_moves(moves, line.summary, in_order=takes)
    )


def check_provenance(history: Sequence[Transaction], remaining: dict[str, int]) -> None:
    """Check where each token came from and went, from the history alone."""
    left: Counter[str] = Counter()
    by_id = {one.transaction_id: one for one in history}
    drawn: dict[str, Counter[str]] = {}
    expiry: dict[str, int] = {}
    for one in history:
        sign = 1 if one.amount > 0 else -1
        assert sum(draw.amount for draw in one.draws) in (0, abs(one.amount))
        for draw in one.draws:
            if not draw.grant:
                continue
            assert expiry.setdefault(draw.grant, draw.expire_time_us) == draw.expire_time_us
            left[draw.grant] += sign * draw.amount
            assert left[draw.grant] >= 0
            if one.kind is Kind.EXPIRE:
                assert draw.expire_time_us <= one.decided_us
            else:
                assert one.decided_us < draw.expire_time_us
        if one.kind is Kind.CONSUME and one.cost and one.status is Status.SUCCESS:
            moved = Counter({draw.grant: draw.amount for draw in one.draws} or {"": one.cost})
            assert moved.total() == one.cost
            drawn[one.transaction_id] = moved
        if one.kind is Kind.REFUND:
            # What came from the pool goes there, and what goes to a grant of the charge came from it.
            charge = by_id[one.refunded_transaction_id]
            assert drawn[charge.transaction_id].total() >= one.amount
    assert {grant: amount for grant, amount in left.items() if amount} == remaining


def run(
    kind: StoreKind, settings: Settings, patches: Callable[[], Sequence[Any]] = lambda: ()
) -> None:
    """Run machines on fresh places of a kind; raise what one of them finds."""
    run_state_machine_as_test(
        lambda: Machine(kind.fresh(), patches()),  # type: ignore[arg-type]  # any factory will do
        settings=settings,
    )


def walk(kind: StoreKind, seed: int, steps: int, patches: Sequence[Any]) -> None:
    """Run one machine without Hypothesis, which shrinks and takes its time.

    Raises:
        AssertionError: The store and the model differ, or something does not hold.
    """
    random = Random(seed)  # it has to be repeatable
    machine = Machine(kind.fresh(), patches)
    try:
        machine.open()
        for step in range(steps):
            if step % 10 == 9:
                machine.another_catalogue(random.choice(CATALOGUES))
            drafts = [draft_of(random) for _ in range(random.randint(1, 4))]
            machine.one_group(drafts, random.choice(STEPS_S))
            if step % 5 == 4:
                machine.what_must_always_hold()
    finally:
        machine.teardown()
