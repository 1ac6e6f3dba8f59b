"""The real rules for tests: on a state in memory, and on a store without a server."""

from collections.abc import Sequence
from typing import Any

from entitlements_server.ledger.catalogue import BUILT_IN, Catalogue
from entitlements_server.ledger.commands import Command, Consume, Refund, SetBalance, TopUp
from entitlements_server.ledger.decide import Rule, bind
from entitlements_server.ledger.errors import LedgerError
from entitlements_server.ledger.outcomes import Outcome, Recorded, Rejected, Replayed
from entitlements_server.ledger.state import State, decide_group
from entitlements_server.ledger.values import Account, Transaction
from entitlements_server.stores.interface import CommandResult, Failed, Store

CHARGE = Consume(user_id="ada", feature="full_distribution", idempotency_key="k-1")
"""A charge of 2 tokens that can be retried."""

NOW_US = 1_790_000_000_000_000
"""Some moment of the year 2026."""


def rule_at(now_us: int = NOW_US, catalogue: Catalogue = BUILT_IN) -> Rule:
    """The real rules at a moment."""
    return bind(catalogue, now_us)


def consume(user_id: str, key: str = "", **fields: Any) -> Consume:
    """A charge of 2 tokens."""
    return Consume(user_id=user_id, feature="full_distribution", idempotency_key=key, **fields)


def top_up(user_id: str, amount: int, key: str = "") -> TopUp:
    """A top-up of so many tokens."""
    return TopUp(user_id=user_id, amount=amount, idempotency_key=key)


class Ledger:
    """The rules on a state in memory, one command at a time."""

    def __init__(self) -> None:
        self.state = State()
        self.history: list[Transaction] = []

    def do(
        self, command: Command, *, now_us: int = NOW_US, catalogue: Catalogue = BUILT_IN
    ) -> Outcome:
        [outcome], entries = decide_group(self.state, [command], rule_at(now_us, catalogue))
        self.history += [entry.transaction for entry in entries]
        return outcome

    def record(self, command: Command, *, now_us: int = NOW_US) -> Transaction:
        return recorded(self.do(command, now_us=now_us))

    def account(self, user_id: str = "ada") -> Account:
        return self.state.account(user_id)

    def balance(self, user_id: str = "ada") -> int:
        return self.account(user_id).balance


def figures(account: Account) -> tuple[str, int, int, int, int]:
    """What the contract says of an account: user, balance, count, and times of first and newest."""
    return (
        account.user_id,
        account.balance,
        account.transaction_count,
        account.create_time_us,
        account.update_time_us,
    )


def recorded(outcome: CommandResult) -> Transaction:
    """The new transaction that an outcome has to be."""
    assert isinstance(outcome, Recorded), outcome
    return outcome.transaction


def replayed(outcome: CommandResult) -> Transaction:
    """The earlier transaction that an outcome has to be."""
    assert isinstance(outcome, Replayed), outcome
    return outcome.transaction


def rejected(outcome: CommandResult) -> LedgerError:
    """The error that an outcome has to be."""
    assert isinstance(outcome, Rejected), outcome
    return outcome.error


async def commit(store: Store, *commands: Command, now_us: int = NOW_US) -> list[Outcome]:
    """Commit commands as one group, by the real rules. No part of it may fail."""
    return decided(await store.commit(commands, rule_at(now_us)))


def decided(results: Sequence[CommandResult]) -> list[Outcome]:
    """The outcomes of a group of which no part failed; raises the error of the first that did."""
    outcomes: list[Outcome] = []
    for result in results:
        if isinstance(result, Failed):
            raise result.error
        outcomes.append(result)
    return outcomes


async def commit_one(store: Store, command: Command, *, now_us: int = NOW_US) -> Outcome:
    """Commit a command alone."""
    [outcome] = await commit(store, command, now_us=now_us)
    return outcome


async def record(store: Store, *commands: Command, now_us: int = NOW_US) -> list[Transaction]:
    """Commit commands that all have to be recorded."""
    return [recorded(outcome) for outcome in await commit(store, *commands, now_us=now_us)]


async def whole_history(store: Store, user_id: str, page: int = 1000) -> list[Transaction]:
    """A user's history, oldest first, read page by page."""
    found: list[Transaction] = []
    before = 2**53
    while part := await store.history(user_id, before, page):
        found += part
        before = part[-1].sequence
    return found[::-1]


async def all_accounts(store: Store, page: int = 1000) -> list[Account]:
    """Every account, read page by page."""
    found: list[Account] = []
    cursor = ""
    while True:
        part = await store.accounts(cursor, page)
        found += part.accounts
        cursor = part.next_cursor
        if not cursor:
            return found


def top_ups(count: int, user_id: str = "ada") -> list[Command]:
    """So many top-ups of one token each."""
    return [TopUp(user_id=user_id, amount=1, reason=f"number {n}") for n in range(1, count + 1)]


async def append_two_histories(store: Store) -> list[Transaction]:
    """Append the histories of two users, made elsewhere; `CHARGE` is the second transaction."""
    ledger = Ledger()
    ledger.record(SetBalance(user_id="ada", balance=10))
    charge = ledger.record(CHARGE)
    ledger.record(TopUp(user_id="bob", amount=7, idempotency_key="k-1"))
    ledger.record(Refund(user_id="ada", transaction_id=charge.transaction_id, amount=1))
    await store.append(ledger.history)
    return ledger.history
