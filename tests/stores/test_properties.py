"""Every store against a model of a few lines, with random commands.

HYPOTHESIS_PROFILE=thorough tries far more of them.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from entitlements_server.ledger.catalogue import BUILT_IN
from entitlements_server.ledger.commands import CallerCommand, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.encoding import encode_transaction
from entitlements_server.ledger.errors import IdempotencyKeyReusedError
from entitlements_server.ledger.invariants import History
from entitlements_server.ledger.outcomes import Outcome, Recorded, Rejected, Replayed
from entitlements_server.ledger.values import Kind, Status, Transaction
from support.kinds import Kind as StoreKind
from support.ledger import NOW_US, all_accounts, decided, figures, rule_at, whole_history

PROFILES = {
    # Shrinking takes minutes where each step is a sync: that is for the other profile.
    "quick": settings(
        max_examples=15, stateful_step_count=25, phases=[Phase.reuse, Phase.generate]
    ),
    "thorough": settings(max_examples=100, stateful_step_count=60),
}
SETTINGS = settings(
    PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")],
    deadline=None,  # nothing here is timed
    suppress_health_check=list(HealthCheck),
)

Draft = tuple[str, str, str, str, int, int]
"""Kind, user, key, feature, amount, and which transaction of the user to refund."""

DRAFTS = st.tuples(
    st.sampled_from(["consume", "consume", "consume", "refund", "refund", "top up", "set"]),
    st.sampled_from(["ada", "bob", "123"]),
    st.sampled_from(["", "", "k-1", "k-2", "k-3"]),
    st.sampled_from([*(feature.feature_id for feature in BUILT_IN.features), "crystal_ball"]),
    st.integers(0, 6),
    st.integers(0, 50),
)


class Model:
    """What has to come of each command."""

    def __init__(self) -> None:
        self.histories: dict[str, list[Transaction]] = defaultdict(list)
        self.bound: dict[tuple[str, str], tuple[CallerCommand, Transaction]] = {}
        self.remaining: dict[str, int] = {}

    def balance(self, user_id: str) -> int:
        return sum(one.amount for one in self.histories[user_id])

    def refunded(self, made: Transaction) -> int:
        return sum(
            one.amount
            for one in self.histories[made.user_id]
            if one.refunded_transaction_id == made.transaction_id
        )

    def take(self, command: CallerCommand, outcome: Outcome) -> None:
        """Check what was decided about a command, and take it in."""
        bound = self.bound.get((command.user_id, command.idempotency_key))
        if bound:
            same = outcome == Replayed(bound[1], self.refunded(bound[1]))
            reused = isinstance(outcome, Rejected) and isinstance(
                outcome.error, IdempotencyKeyReusedError
            )
            assert same or (reused and command != bound[0])
            return
        change = self.change(command)
        if change is None:
            assert not isinstance(outcome, Recorded)
            return
        assert isinstance(outcome, Recorded)
        made = outcome.transaction
        assert (made.amount, made.balance_before) == (change, self.balance(command.user_id))
        self.histories[command.user_id].append(made)
        if isinstance(command, Refund):
            self.remaining[command.transaction_id] -= change
        elif made.kind is Kind.CONSUME and change:
            self.remaining[made.transaction_id] = -change
        if command.idempotency_key and made.status is Status.SUCCESS:
            self.bound[command.user_id, command.idempotency_key] = (command, made)

    def change(self, command: CallerCommand) -> int | None:
        """The change of the balance, or None where nothing may be recorded."""
        balance = self.balance(command.user_id)
        match command:
            case Consume():
                costs = {feature.feature_id: feature.cost for feature in BUILT_IN.features}
                cost = costs.get(command.feature)
                return None if cost is None else -cost if cost <= balance else 0
            case TopUp():
                return command.amount
            case SetBalance():
                return command.balance - balance
            case Refund():
                remaining = self.remaining.get(command.transaction_id, 0)
                if not remaining or command.amount > remaining:
                    return None
                return command.amount or remaining


class LedgerMachine(RuleBasedStateMachine):
    """A store that is used by everyone at once, and restarted at times."""

    def __init__(self, kind: StoreKind) -> None:
        super().__init__()
        self.kind = kind
        self.model = Model()
        self.now_us = NOW_US
        self.runner = asyncio.Runner()

    @initialize()
    def open(self) -> None:
        self.store = self.runner.run(self.kind.open())

    def command(self, draft: Draft) -> CallerCommand:
        what, user_id, key, feature, amount, place = draft
        match what:
            case "consume":
                return Consume(user_id=user_id, feature=feature, idempotency_key=key)
            case "top up":
                return TopUp(user_id=user_id, amount=amount + 1, idempotency_key=key)
            case "set":
                return SetBalance(user_id=user_id, balance=amount, idempotency_key=key)
        ids = [one.transaction_id for one in self.model.histories[user_id]] or ["1-unknown"]
        return Refund(
            user_id=user_id,
            transaction_id=ids[-1 - place % len(ids)],
            amount=max(amount - 2, 0),
            idempotency_key=key,
        )

    async def commit(self, commands: Sequence[CallerCommand]) -> list[Outcome]:
        return decided(await self.store.commit(commands, rule_at(self.now_us)))

    @rule(drafts=st.lists(DRAFTS, min_size=1, max_size=8), seconds=st.integers(-3, 5))
    def one_group(self, drafts: list[Draft], seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        commands = [self.command(draft) for draft in drafts]
        outcomes = self.runner.run(self.commit(commands))
        assert len(outcomes) == len(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            self.model.take(command, outcome)

    @rule(drafts=st.lists(DRAFTS, min_size=2, max_size=6))
    def many_at_once(self, drafts: list[Draft]) -> None:
        commands = [self.command(draft) for draft in drafts]

        async def together() -> list[list[Outcome]]:
            return list(await asyncio.gather(*(self.commit([command]) for command in commands)))

        outcomes = [group[0] for group in self.runner.run(together())]
        # They were decided in the order of their sequences. What was replayed would still be now;
        # what was rejected may have been so before another command bound its key.
        pairs = sorted(zip(commands, outcomes, strict=True), key=lambda pair: place_of(pair[1]))
        for command, outcome in pairs:
            if not isinstance(outcome, Rejected):
                self.model.take(command, outcome)

    @rule()
    def retry_everything(self) -> None:
        commands = [command for command, _ in self.model.bound.values()]
        outcomes = self.runner.run(self.commit(commands))
        assert outcomes == [
            Replayed(made, self.model.refunded(made)) for _, made in self.model.bound.values()
        ]

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        if not self.kind.durable:
            return
        self.runner.run(self.kind.abandon(self.store) if crash else self.store.close())
        self.store = self.runner.run(self.kind.open())

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        self.runner.run(self.compare())

    async def compare(self) -> None:
        accounts = []
        for user_id, history in sorted(self.model.histories.items()):
            account = await self.store.account(user_id)
            assert await whole_history(self.store, user_id, page=7) == history
            assert account.balance == self.model.balance(user_id) >= 0
            assert account.transaction_count == len(history)
            assert [one.sequence for one in history] == list(range(1, len(history) + 1))
            times = [one.create_time_us for one in history]
            assert times == sorted(times)
            if history:
                accounts.append((user_id, account.balance, len(history), times[0], times[-1]))
            known = History(account)
            for one in history:
                assert list(known.add(one, encode_transaction(one))) == []
            assert list(known.finish()) == []
        # This brings the tables up to date, so it may not come each time.
        if len(accounts) == 3 and accounts[0][2] % 4 == 0:
            found = await all_accounts(self.store, page=2)
            assert sorted(map(figures, found)) == accounts

    @invariant()
    def no_charge_gives_back_more_than_it_took(self) -> None:
        assert all(remaining >= 0 for remaining in self.model.remaining.values())
        for history in self.model.histories.values():
            given: dict[str, int] = defaultdict(int)
            for one in history:
                given[one.refunded_transaction_id] += one.amount
            for charge in history:
                assert given[charge.transaction_id] <= charge.cost

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


def place_of(outcome: Outcome) -> int:
    return outcome.transaction.sequence if isinstance(outcome, Recorded) else 2**53


def test_the_store_agrees_with_the_model_whatever_happens(kind: StoreKind) -> None:
    run_state_machine_as_test(
        lambda: LedgerMachine(kind.fresh()),  # type: ignore[arg-type] # any factory will do
        # Where each step is a few trips over the network, fewer of them have to do.
        settings=settings(SETTINGS, max_examples=max(SETTINGS.max_examples // kind.slow, 1)),
    )
